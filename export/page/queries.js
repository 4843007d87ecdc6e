// From what a reader drops, pastes or types to the JSON text of a request.

import { PageError } from "./client.js";

// What the served graph decodes itself; the browser draws other pictures anew.
const PLAIN_TYPES = ["image/jpeg", "image/png", "image/gif", "image/webp", ""];
const MAX_BYTES = 40 * 2 ** 20;
const NUM_FRAMES = 16;
const SECONDS_TO_WAIT = 20;
const MOST_MS_TO_A_FRAME = 200;

/** What a model takes from files: the value of the attribute `accept`, and words for it. */
export const FILES_OF = {
  images: { accept: "image/*", words: "a picture" },
  clips: { accept: "video/*,image/*", words: "a video, or its frames as pictures" },
  vectors: { accept: ".json,application/json", words: "a file with a JSON list of numbers" },
};

/** A query of files: `{input, preview, title}`, where `input` is JSON text of a batch of one. */
export async function readFiles(kind, files) {
  if (!files.length) throw new PageError(`There is no file in it. Drop ${FILES_OF[kind].words}.`);
  const total = files.reduce((sum, file) => sum + file.size, 0);
  if (total > MAX_BYTES) {
    throw new PageError(`A query must have at most ${MAX_BYTES / 2 ** 20} MB. Received: ${Math.ceil(total / 2 ** 20)} MB`);
  }
  if (files.length > 1 && kind !== "clips") {
    throw new PageError(`A query must be ${FILES_OF[kind].words}. Received: ${files.length} files`);
  }
  const [first] = files;
  const title = files.length > 1 ? `${files.length} files from ${first.name}` : first.name || "pasted picture";
  const input = await READERS[kind](files);
  return { input, title, preview: kind === "vectors" ? null : { url: URL.createObjectURL(first), type: first.type } };
}

/** A query of a vector that was typed: JSON numbers, with or without brackets. */
export function readVector(text) {
  const trimmed = text.trim().replace(/^\[|\]$/g, "");
  const numbers = trimmed.split(/[\s,]+/).filter(Boolean).map(Number);
  if (!numbers.length || !numbers.every(Number.isFinite)) {
    throw new PageError("A vector must be a list of numbers, such as [0.1, -2.5]. Received: something else");
  }
  return { input: JSON.stringify([numbers]), title: `vector of ${numbers.length} numbers`, preview: null };
}

const READERS = {
  images: async ([file]) => `[${await writeImage(file)}]`,
  clips: async (files) => {
    const isVideo = files.length === 1 && files[0].type.startsWith("video/");
    const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
    const frames = isVideo ? await drawFrames(files[0]) : [...files].sort(byName);
    return `[[${(await Promise.all(frames.map(writeImage))).join(",")}]]`;
  },
  vectors: async ([file]) => readVector(await file.text()).input,
};

/** A picture's bytes as the REST API takes them. */
async function writeImage(file) {
  const isPlain = PLAIN_TYPES.includes(file.type) || !file.type.startsWith("image/");
  const blob = isPlain ? file : await redraw(file);
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new PageError(`The file ${file.name} cannot be read.`));
    reader.readAsDataURL(blob);
  });
  return `{"b64":"${address.slice(address.indexOf(",") + 1)}"}`;
}

async function redraw(file) {
  try {
    const bitmap = await createImageBitmap(file);
    return await draw(bitmap, bitmap.width, bitmap.height, "image/png");
  } catch {
    throw new PageError(`This browser cannot read ${file.name}. Use a JPEG, PNG, GIF, WebP or BMP file.`);
  }
}

function draw(source, width, height, type) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(source, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), type, 0.95);
  });
}

/** Frames of a video, from the middles of equal stretches of its time. */
async function drawFrames(file) {
  const video = Object.assign(document.createElement("video"), { muted: true, preload: "auto" });
  const url = URL.createObjectURL(file);
  try {
    await until(video, "loadeddata", () => (video.src = url));
    if (!Number.isFinite(video.duration)) throw new Error("no duration");
    const frames = [];
    for (let i = 0; i < NUM_FRAMES; i++) {
      const shown = new Promise((resolve) => video.requestVideoFrameCallback?.(resolve));
      await until(video, "seeked", () => (video.currentTime = ((i + 0.5) * video.duration) / NUM_FRAMES));
      // The frame may come after the event; none comes where it is the one that shows already.
      await Promise.race([shown, new Promise((resolve) => setTimeout(resolve, MOST_MS_TO_A_FRAME))]);
      frames.push(await draw(video, video.videoWidth, video.videoHeight, "image/jpeg"));
    }
    return frames;
  } catch {
    throw new PageError(`This browser cannot play ${file.name}. Use an MP4 or WebM file, or its frames as pictures.`);
  } finally {
    URL.revokeObjectURL(url);
  }
}

function until(target, event, start) {
  return new Promise((resolve, reject) => {
    target.addEventListener(event, resolve, { once: true });
    target.addEventListener("error", reject, { once: true });
    setTimeout(reject, SECONDS_TO_WAIT * 1000);
    start();
  });
}

/** Tags COLUMN=VALUE of a field, parted by commas; a value may hold commas too. */
export function readTags(text) {
  return text.split(/,(?=[^,=]*=)/).map((tag) => tag.trim()).filter(Boolean);
}

/**
 * The signature that answers a query with the reader's options, its inputs as JSON text, how many
 * results to show, and notes on options that this signature does not take.
 */
export function planSearch(model, query, { k, allow, deny, numProbes }) {
  const isNarrowed = allow.length + deny.length > 0;
  let plan = { signature: "search", inputs: { [model.itemInput]: query.input } };
  const notes = [];
  if (query.id !== undefined) {
    plan = { signature: "search_by_id", inputs: { item_ids: `[${model.writeId(query.id)}]` } };
    if (isNarrowed || numProbes) notes.push("A search with an item takes no other option than the number of results.");
  } else if (isNarrowed) {
    const write = (tags) => JSON.stringify([tags.length ? tags : [""]]);
    plan.signature = "search_with_filters";
    Object.assign(plan.inputs, { allow_tags: write(allow), deny_tags: write(deny) });
    if (numProbes) notes.push("A search with tags does not take the number of lists to look at.");
  } else if (numProbes) {
    plan.signature = "search_with_probes";
    plan.inputs.num_probes = String(numProbes);
  } else if (k > model.topK && model.canChooseK) {
    plan = { signature: "search_k", inputs: { ...plan.inputs, k: String(k) } };
  }
  const most = model.resultsOf(plan.signature);
  if (most && k > most) notes.push(`This search finds at most ${most} items.`);
  return { ...plan, k, notes, isNarrowed: plan.signature === "search_with_filters" };
}
