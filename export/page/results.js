// What was found, as elements. Ids and labels are text from strangers: only `textContent` shows them.

/** Puts the items into the list, best first. */
export function showItems(list, model, items) {
  list.className = model.thumbnails ? "grid" : "rows";
  list.replaceChildren(...items.map((item, i) => makeRow(model, item, i + 1)));
}

function makeRow(model, item, rank) {
  const card = make(model.hasLinks ? "a" : "div", "card");
  if (model.hasLinks) {
    card.href = linkTo(item.id);
    card.append(make("span", "unseen", "More like "));
  }
  if (model.thumbnails) card.append(makePicture(model, item.id));
  const words = make("span", "words");
  if (item.label) words.append(make("span", "label", item.label));
  words.append(make("span", "id", item.id));
  const line = make("span", "line");
  line.append(make("span", "score", item.score === null ? "" : `score ${item.score.toFixed(3)}`));
  if (item.isMatch) line.append(make("span", "match", "match"));
  words.append(line);
  // The list itself counts for those who hear it.
  const number = make("span", "rank", String(rank));
  number.ariaHidden = "true";
  card.append(number, words);
  const row = make("li");
  row.append(card);
  return row;
}

/** The address that searches with an item. */
export function linkTo(id) {
  return `#item=${encodeURIComponent(id)}`;
}

/** The item that the address names; undefined if it names none. */
export function itemOfAddress() {
  try {
    const found = /^#item=(.+)$/.exec(location.hash);
    return found ? decodeURIComponent(found[1]) : undefined;
  } catch {
    return undefined;
  }
}

function makePicture(model, id) {
  const frame = make("span", "picture");
  frame.ariaHidden = "true";
  const url = model.thumbnailOf(id);
  const image = Object.assign(make("img"), { alt: "", loading: "lazy", decoding: "async", draggable: false });
  const nothing = make("span", "no-picture", "no picture");
  image.addEventListener("error", () => image.replaceWith(nothing));
  if (url !== null) image.src = url;
  frame.append(url === null ? nothing : image);
  if (model.hasLinks) frame.append(make("span", "more", "More like this"));
  return frame;
}

/** Shows what is searched with: a picture or a video at an address that the page made itself. */
export function showPreview(image, video, preview) {
  const isVideo = Boolean(preview?.type.startsWith("video/"));
  for (const [element, isChosen] of [[image, !isVideo], [video, isVideo]]) {
    element.hidden = !(isChosen && preview?.url);
    if (element.hidden) element.removeAttribute("src");
    else element.src = preview.url;
    element.onerror = () => (element.hidden = true);
  }
}

/** Fills the choices of a field with texts that are not among them yet. */
export function addChoices(datalist, texts) {
  const known = new Set([...datalist.children].map((option) => option.value));
  for (const text of texts) {
    if (!known.has(text)) datalist.append(Object.assign(make("option"), { value: text }));
    known.add(text);
  }
}

function make(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
