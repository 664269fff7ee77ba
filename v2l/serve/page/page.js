// The page: which adapter is open, what the library holds now, and finding moments.

import { Answers, withVideo } from "./answers.js";
import { Film } from "./film.js";
import { askForKeyWith, json, listing, pathOf } from "./server.js";
import { facts, filter, hashOf, showLibrary } from "./shelves.js";
import { byId, count, dayOf, element, named, stretch } from "./words.js";

const EVERY = 10_000; // ms between looks at the library: files grow, come and go
const TOP = 20; // hits of a search

let videos = null, open = null, opening = null, looking = null, failed = false;

const film = new Film(byId("stage"), byId("films"), {
  onSegment(segment) {
    const useful = segment !== null && open.segments.length > 1;
    byId("only-choice").hidden = !useful;
    if (useful) byId("only-text").textContent = `only ${stretch(open.sources[segment.source], segment.start,
                                                                    segment.end, dayOf(open))}`;
    else byId("only").checked = false;
  },
  onTime: (seconds, source) => history.replaceState(null, "", hashOf(open.id, seconds, source)),
});
const answers = new Answers(film, () => open);

// -- what is open -------------------------------------------------------------------------------------------------

/** What the address says: {id, seconds, source}. */
function place() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const given = new URLSearchParams(query), whole = (name) => Math.max(0, Number(given.get(name)) || 0);
  let id = path;
  try { id = path.split("/").map(decodeURIComponent).join("/"); } catch { /* as it stands */ }
  return { id, seconds: given.has("t") ? whole("t") : null, source: whole("video") };
}

async function go() {
  const { id, seconds, source } = place();
  if (!videos) return;
  if (!id) { leave(); return; }
  const video = videos.find((one) => one.id === id);
  if (!video || video.error) {
    leave();
    tell(video ? video.error : `There is no ${id} in the library.`);
    return;
  }
  tell("");
  const fresh = open?.id !== id;
  if (fresh) {
    opening = id;
    const frames = await seen(video);
    if (opening !== id) return; // another was opened meanwhile
    leave();
    open = video;
    byId("library").hidden = true;
    byId("video").hidden = byId("back").hidden = false;
    byId("hits").replaceChildren();
    byId("moment").value = "";
    byId("only").checked = false;
    film.hits = [];
    describe();
    film.open(video, frames);
    film.choose(null);
    scrollTo(0, 0);
    byId("video-title").focus({ preventScroll: true });
  }
  if (seconds !== null) film.seek(seconds, Math.min(source, video.sources.length - 1));
}

function leave() {
  opening = null;
  byId("library").hidden = false;
  byId("video").hidden = byId("back").hidden = true;
  document.title = "v2l";
  if (!open) return;
  answers.clear();
  film.close();
  open = null;
}

/** The frames of an adapter that were seen; none where that cannot be told. */
async function seen(video) {
  try {
    return (await json(`/api/seen/${pathOf(video.id)}`)).frames;
  } catch {
    return [];
  }
}

function describe() {
  document.title = `${open.id} · v2l`;
  byId("video-title").replaceChildren(...named(open.id).filter(Boolean));
  byId("facts").textContent = facts(open, true);
  byId("foreign").hidden = !open.foreign;
  byId("foreign").textContent = "The model knows nothing of what this video shows: what it answers is made up.";
  const there = withVideo(open).length, all = open.sources.length;
  byId("direct-choice").hidden = !there;
  byId("direct-text").textContent = all === 1 ? "ask the video itself, too" :
    there === all ? `ask the ${all} videos themselves, too` : `ask the ${there} of ${all} videos that are here, too`;
  byId("strategy").parentElement.hidden = open.segments.length < 2;
  byId("gone").hidden = true;
  byId("send").disabled = false;
}

// -- the library as it is now -------------------------------------------------------------------------------------

function look() {
  looking ??= refresh().finally(() => { looking = null; });
  return looking;
}

async function refresh() {
  try {
    const found = await listing();
    if (failed) tell("");
    failed = false;
    if (!found) return;
    const first = !videos;
    videos = found;
    showLibrary(videos);
    if (first) await go();
    else await follow();
  } catch (error) {
    failed = true;
    tell(error.message);
  }
}

/** What has become of the adapter that is open. */
async function follow() {
  if (!open) return;
  const now = videos.find((one) => one.id === open.id);
  if (!now || now.error) {
    byId("gone").hidden = false;
    byId("gone").textContent = now ? now.error : `${open.id} is in the library no more.`;
    byId("send").disabled = true;
    return;
  }
  if (JSON.stringify(now) === JSON.stringify(open) && byId("gone").hidden) return;
  const frames = now.modified === open.modified ? film.frames : await seen(now);
  if (open?.id !== now.id) return;
  open = now;
  describe();
  film.update(now, frames);
}

function tell(message) {
  byId("notice").textContent = message;
  byId("notice").hidden = !message;
}

// -- finding moments ----------------------------------------------------------------------------------------------

const turns = new Map();  // form -> how often it was looked for

/** Puts what is found in a box, as a list; `shown(hits)` is called with them. Of several queries in
 *  a form, the last is shown. */
async function find(form, box, query, id, shown = () => {}) {
  const text = query.value.trim();
  const turn = (turns.get(form) ?? 0) + 1;
  turns.set(form, turn);
  if (!text) { query.focus(); shown([]); box.replaceChildren(); return; }
  const outdated = () => turns.get(form) !== turn || (id && open?.id !== id);
  shown([]);
  box.replaceChildren(element("p", { class: "soft" }, "Looking …"));
  try {
    const { hits, note, skipped } = await json("/api/find", { body: { query: text, top: TOP, ...(id ? { id } : {}) } });
    if (outdated()) return;
    shown(hits);
    const most = Math.max(...hits.map((hit) => Math.abs(hit.score)), 1e-9);
    box.replaceChildren(hits.length
      ? element("ol", { class: "found", "aria-label": count(hits.length, "moment") }, hits.map((hit) => row(hit, most, !id)))
      : element("p", { class: "soft" }, note ?? "Nothing shows that."));
    if (skipped.length) box.append(element("p", { class: "soft" },
      `${count(skipped.length, "adapter")} could not be searched: ${skipped[0].error}`));
  } catch (error) {
    if (outdated()) return;
    shown([]);
    box.replaceChildren(element("p", { class: "warning" }, error.message));
  }
}

function row(hit, most, everywhere) {
  const bar = element("span", { class: "score", "aria-hidden": "true" }, element("span"));
  bar.firstElementChild.style.width = `${Math.max(2, 100 * hit.score / most)}%`;
  const name = everywhere ? element("span", { class: "name" }, named(hit.id))
    : new Set(open.sources.map((source) => source.name)).size > 1
      ? element("span", { class: "name" }, open.sources[hit.source].name) : null;
  const source = (everywhere ? videos.find((video) => video.id === hit.id) : open)?.sources[hit.source];
  const inside = [element("span", { class: "time" }, stretch(source, hit.start, hit.end, everywhere ? "" : dayOf(open))),
                  name, bar,
                  element("span", { class: "soft number" }, hit.score.toFixed(2))];
  return element("li", {}, everywhere ? element("a", { class: "moment", href: hashOf(hit.id, hit.start, hit.source) }, inside)
    : element("button", { type: "button", class: "moment", onclick: () => film.seek(hit.start, hit.source) }, inside));
}

// -- wiring -------------------------------------------------------------------------------------------------------

askForKeyWith((message) => new Promise((given) => {
  const dialog = byId("key"), value = byId("key-value");
  byId("key-error").textContent = message;
  byId("key-error").hidden = !message;
  value.value = "";
  dialog.oncancel = (event) => event.preventDefault();
  byId("key-form").onsubmit = (event) => {
    event.preventDefault();
    dialog.close();
    given(value.value.trim());
  };
  if (!dialog.open) dialog.showModal();
  value.focus();
}));

byId("skip").onclick = () => byId("main").focus();
byId("filter").oninput = filter;
byId("filter-form").onsubmit = (event) => event.preventDefault();
byId("find-everywhere").onsubmit = (event) => {
  event.preventDefault();
  find(event.target, byId("everywhere-hits"), byId("everywhere"), null);
};
byId("find").onsubmit = (event) => {
  event.preventDefault();
  find(event.target, byId("hits"), byId("moment"), open.id, (hits) => film.setHits(hits));
};
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey
      || event.target.closest("input, textarea, select, dialog")) return;
  event.preventDefault();
  byId(open ? "question" : "filter").focus();
});
addEventListener("hashchange", go);
addEventListener("focus", look);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
setInterval(() => { if (!document.hidden) look(); }, EVERY);
look();
