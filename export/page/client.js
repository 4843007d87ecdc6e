// What the page asks of a server: TensorFlow Serving's REST API, and nothing else.

const ITEM_INPUTS = { images: "images", frames: "clips", embeddings: "vectors" };
// Strings, or whole numbers with all that may belong to them.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** An error whose sentence is for the reader of the page. */
export class PageError extends Error {
  constructor(message, { mayPass = false } = {}) {
    super(message);
    this.mayPass = mayPass;
  }
}

/** A model behind the REST API, with what its metadata says. */
export class Model {
  constructor(settings, metadata) {
    this.name = settings.model;
    this.thumbnails = settings.thumbnails ?? null;
    this.version = metadata.model_spec.version;
    this.signatures = metadata.metadata.signature_def.signature_def;
    const names = Object.keys(this.signatures.search?.inputs ?? {});
    this.itemInput = names.find((name) => name in ITEM_INPUTS);
    if (!this.itemInput) {
      const received = names.join(", ") || "none";
      throw new PageError(`The model must search with images, clips or vectors. Received: ${received}`);
    }
    this.kind = ITEM_INPUTS[this.itemInput];
    this.hasFilters = "search_with_filters" in this.signatures;
    this.hasLinks = "search_by_id" in this.signatures;
    this.hasNumericIds = this.signatures.search.outputs.ids.dtype === "DT_INT64";
    this.topK = this.resultsOf("search");
    this.canChooseK = "search_k" in this.signatures;
    this.hasLists = "search_with_probes" in this.signatures;
  }

  /** Reads `settings.json` and the metadata of the model that it names. */
  static async open() {
    const settings = await ask("settings.json");
    const name = encodeURIComponent(settings.model);
    return new Model(settings, await ask(`v1/models/${name}/metadata`));
  }

  /** How many items a signature finds, or null where the request says it. */
  resultsOf(signature) {
    const size = Number(this.signatures[signature].outputs.ids.tensor_shape?.dim?.[1]?.size);
    return size > 0 ? size : null;
  }

  /** Runs a signature of one row on inputs that are JSON text; resolves to rows of results. */
  async search(signature, inputs, signal) {
    const columns = Object.entries(inputs).map(([name, text]) => `${JSON.stringify(name)}:${text}`);
    const body = `{"signature_name":${JSON.stringify(signature)},"inputs":{${columns.join(",")}}}`;
    const path = `v1/models/${encodeURIComponent(this.name)}:predict`;
    const { outputs } = await ask(path, { method: "POST", body, signal });
    const [ids, scores] = [outputs.ids[0], outputs.scores[0]];
    const [labels, matches] = [outputs.labels?.[0], outputs.matches?.[0]];
    return ids
      .map((id, i) => ({ id: String(id), score: scores[i], label: labels?.[i] ?? "", isMatch: matches?.[i] }))
      .filter(({ id }) => id !== "" && !(this.hasNumericIds && id === "-1"));
  }

  /** An id as JSON text. */
  writeId(id) {
    if (!this.hasNumericIds) return JSON.stringify(id);
    if (!/^-?\d{1,19}$/.test(id)) throw new PageError(`Ids of this collection are whole numbers. Received: ${id}`);
    return BigInt(id).toString();
  }

  /** The address of an item's thumbnail; null if there is none. */
  thumbnailOf(id) {
    const parts = id.split("/");
    const isPath = parts.every((part) => part !== "" && part !== "." && part !== "..");
    return this.thumbnails && isPath ? this.thumbnails + parts.map(encodeURIComponent).join("/") : null;
  }
}

async function ask(path, options) {
  let response, text;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new PageError("The server does not answer. Is it running?", { mayPass: true });
  }
  const document = parse(text);
  if (!response.ok || document === undefined) {
    const reason = typeof document?.error === "string" ? document.error : "its answer is not JSON";
    const mayPass = response.status >= 500 || response.status === 404;
    throw new PageError(prefixOf(response.status, path) + reason, { mayPass });
  }
  return document;
}

function prefixOf(status, path) {
  // A refusal's own sentence says what is wrong with the request.
  if (status === 400) return "";
  const isMissing = status === 404 && path.startsWith("v1/");
  return isMissing ? "The server has no version of the model ready: " : `The server answered ${status}: `;
}

/** JSON, with whole numbers that JavaScript would round as strings; undefined if it is none. */
function parse(text) {
  const isRounded = (token) => /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token));
  try {
    return JSON.parse(text.replace(TOKENS, (token) => (isRounded(token) ? `"${token}"` : token)));
  } catch {
    return undefined;
  }
}
