// The page: what a reader does becomes a query, and the answer becomes elements.

import { Model, PageError } from "./client.js";
import { FILES_OF, planSearch, readFiles, readTags, readVector } from "./queries.js";
import { addChoices, itemOfAddress, linkTo, showItems, showPreview } from "./results.js";

const MOST_RESULTS = 500;
const find = (id) => document.getElementById(id);

let model = null;
let query = null;
// The last query of files or numbers, to which the browser's Back returns.
let ownQuery = null;
let running = new AbortController();

async function start() {
  try {
    model = await Model.open();
    describeModel();
    followAddress();
  } catch (error) {
    showError(error);
  }
}

function describeModel() {
  const { accept, words } = FILES_OF[model.kind];
  find("model").textContent = document.title = model.name;
  find("version").textContent = `version ${model.version}`;
  find("files").accept = accept;
  find("files").multiple = model.kind === "clips";
  find("files-title").textContent = `Choose ${words}`;
  find("vector-form").hidden = model.kind !== "vectors";
  find("item-form").hidden = !model.hasLinks;
  // On a phone the options would push the results out of sight.
  find("options").open = matchMedia("(min-width: 52rem)").matches;
  find("filters").hidden = !model.hasFilters;
  find("probes").hidden = !model.hasLists;
  find("k").max = model.canChooseK ? MOST_RESULTS : model.topK;
  find("k").value ||= model.topK;
  clear(`Drop ${words} anywhere on this page to see its nearest items.`);
}

/** Searches with the item that the address names, or again with the reader's own query. */
function followAddress() {
  const id = itemOfAddress();
  if (id === undefined && !ownQuery) return;
  const ofItem = { id, title: id, preview: { url: model.thumbnailOf(id ?? ""), type: "image" } };
  search(() => (id === undefined ? ownQuery : ofItem));
}

/** Searches with what `read` makes of the reader's files or numbers. */
function searchWith(read) {
  return search(async () => {
    const own = await read();
    if (ownQuery?.preview) URL.revokeObjectURL(ownQuery.preview.url);
    if (location.hash) history.pushState(null, "", location.pathname + location.search);
    return (ownQuery = own);
  });
}

/** Searches with the query that `read` gives, and says how long all of it took. */
async function search(read = () => query) {
  const times = [performance.now()];
  running.abort();
  running = new AbortController();
  const { signal } = running;
  setBusy(true);
  // What is shown as the query must not be an older one, also if this one cannot be read.
  find("shown").hidden = true;
  try {
    const next = await read();
    if (signal.aborted) return;
    query = next;
    showQuery();
    const options = readOptions();
    find("k").value = options.k;
    const plan = planSearch(model, query, options);
    times.push(performance.now());
    const items = (await model.search(plan.signature, plan.inputs, signal)).slice(0, plan.k);
    times.push(performance.now());
    showAnswer(items, plan);
    times.push(performance.now());
    showTimes(items.length, times);
    setBusy(false);
  } catch (error) {
    if (!signal.aborted) showError(error);
  }
}

function readOptions() {
  const number = (id) => Math.floor(Number(find(id).value));
  return {
    k: Math.min(Math.max(number("k") || model.topK, 1), Number(find("k").max)),
    allow: readTags(find("allow").value),
    deny: readTags(find("deny").value),
    numProbes: model.hasLists ? Math.max(number("num_probes"), 0) : 0,
  };
}

function showQuery() {
  find("shown").hidden = false;
  find("shown-title").textContent = query.title;
  find("item").value = query.id ?? "";
  document.title = `${query.title} · ${model.name}`;
  showPreview(find("shown-image"), find("shown-video"), query.preview);
}

function showAnswer(items, { notes, isNarrowed }) {
  const list = find("list");
  const hadFocus = list.contains(document.activeElement);
  const nothing = isNarrowed ? "No item passes these filters." : "No item was found: the collection is empty.";
  clear([...(items.length ? [] : [nothing]), ...notes].join(" "));
  showItems(list, model, items);
  addChoices(find("known-items"), items.map(({ id }) => id));
  const labels = items.flatMap(({ label }) => label.split("|")).filter(Boolean);
  const column = items.some(({ label }) => label.includes("|")) ? "labels" : "label";
  addChoices(find("known-tags"), labels.map((label) => `${column}=${label}`));
  const title = find("results-title");
  if (hadFocus) title.focus({ preventScroll: true });
  const { top } = title.getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.7) title.scrollIntoView();
}

function showTimes(count, [started, sent, received, shown]) {
  const ms = (from, to) => `${Math.round(to - from)} ms`;
  find("status").textContent = `${count} ${count === 1 ? "item" : "items"} in ${ms(started, shown)}`;
  find("times").textContent =
    `reading ${ms(started, sent)} · network and server ${ms(sent, received)} · showing ${ms(received, shown)}`;
}

/** Takes the last answer off the page; a note may take its place. */
function clear(note = "") {
  find("list").replaceChildren();
  find("status").textContent = find("times").textContent = "";
  find("note").textContent = note;
  find("error").hidden = true;
}

function showError(error) {
  clear();
  const isOurs = error instanceof PageError;
  find("error-text").textContent = isOurs ? error.message : `The page failed: ${error?.message ?? error}`;
  find("again").hidden = !(isOurs && error.mayPass);
  find("error").hidden = false;
  setBusy(false);
}

function setBusy(isBusy) {
  find("results").setAttribute("aria-busy", String(isBusy));
}

async function onFiles(list) {
  const files = [...list];
  // Only the model tells what the files should be.
  await opening;
  if (model) searchWith(() => readFiles(model.kind, files));
}

find("files").addEventListener("change", ({ target }) => {
  if (target.files.length) onFiles(target.files);
  // So that the same file can be chosen again.
  target.value = "";
});
find("vector-form").addEventListener("submit", (event) => {
  event.preventDefault();
  searchWith(() => readVector(find("vector").value));
});
find("item-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = find("item").value.trim();
  if (id && id === itemOfAddress()) followAddress();
  else if (id) location.hash = linkTo(id);
});
find("skip").addEventListener("click", (event) => {
  // The address belongs to the items.
  event.preventDefault();
  find("results-title").focus();
});
find("options-form").addEventListener("submit", (event) => event.preventDefault());
find("options-form").addEventListener("change", () => query && search());
find("again").addEventListener("click", () => (model && query ? search() : (opening = start())));
addEventListener("hashchange", () => model && followAddress());
addEventListener("paste", (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  onFiles(event.clipboardData.files);
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(type, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    find("drop").classList.toggle("is-over", type === "dragenter" || type === "dragover");
    if (type === "drop") onFiles(event.dataTransfer.files);
  });
}

let opening = start();
