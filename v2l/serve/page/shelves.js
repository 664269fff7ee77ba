// The library: a row for each adapter, with the frames that were seen. Rows are made once and changed in place, and
// pictures are asked for when a row comes near the window: hundreds of adapters stay quick.

import { frameUrl } from "./server.js";
import { at, byId, clock, count, element, named, size } from "./words.js";

const rows = new Map();

const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    fill(target);
  }
}, { rootMargin: "400px" });

/** Shows a listing. */
export function showLibrary(videos) {
  const list = byId("videos"), ids = new Set(videos.map((video) => video.id));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    near.unobserve(row.strip);
    row.item.remove();
    rows.delete(id);
  }
  let before = list.firstElementChild;
  for (const video of videos) {
    const known = rows.get(video.id), text = JSON.stringify(video);
    if (known?.text === text) {
      before = known.item.nextElementSibling;
      continue;
    }
    const row = made(video, text);
    rows.set(video.id, row);
    if (known) known.item.replaceWith(row.item);
    else list.insertBefore(row.item, before);
    before = row.item.nextElementSibling;
    if (row.strip) near.observe(row.strip);
  }
  filter();
}

/** Hides the rows whose names do not contain all words of the filter. */
export function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { item, words: text } of rows.values()) {
    item.hidden = !words.every((word) => text.includes(word));
    shown += item.hidden ? 0 : 1;
  }
  byId("count").textContent = words.length ? `${shown} of ${count(rows.size, "adapter")}` : count(rows.size, "adapter");
  const empty = byId("empty");
  empty.hidden = shown > 0;
  empty.textContent = rows.size
    ? "No name contains that."
    : "There is no adapter here yet. Make one with v2l ingest VIDEO in the folder that is served; it appears by itself.";
}

/** What is said of an adapter besides its name, in a line. */
export function facts(video, inFull = false) {
  // A camera that was watched again is no other.
  const names = [...new Map(video.sources.map((source, number) =>
    [source.started ? source.name : number, source.name])).values()];
  const seconds = video.segments.reduce((sum, { start, end }) => sum + end - start, 0);
  const last = video.segments.at(-1), live = last && video.sources[last.source].started;
  return [names.length === 1 ? names[0] : count(names.length, "video"), clock(seconds),
          ...(live ? [`live until ${at(video.sources[last.source], last.end)}`] : []), count(video.segments.length, "segment"),
          ...(inFull ? [`${count(video.frames, "frame")} seen`, video.base] : []), size(video.bytes),
          ...(inFull ? [`made ${new Date(video.modified * 1000).toLocaleDateString("en-GB",
            { day: "numeric", month: "short", year: "numeric" })}`] : [])].join(" · ");
}

function made(video, text) {
  const words = [video.id, ...video.sources.map((source) => source.name)].join(" ").toLowerCase();
  if (video.error) {
    const item = element("li", { class: "row damaged" }, element("span", { class: "what" }, named(video.id)),
                         element("span", { class: "warning" }, video.error));
    return { item, text, words, strip: null };
  }
  const strip = element("span", { class: "strip", "aria-hidden": "true" });
  strip.video = video;
  const missing = video.sources.every((source) => !source.video);
  const what = element("span", { class: "what" }, named(video.id), element("span", { class: "soft" }, facts(video)),
    video.foreign ? element("span", { class: "warning" }, "made up: the model knows nothing of this video") : null);
  const item = element("li", {}, element("a", { class: "row", href: hashOf(video.id) }, what,
    missing ? element("span", { class: "strip none" }, video.sources.every((source) => source.started)
      ? "Watched live; no video of it was kept." : "The video is not here; its adapter answers without it.") : strip));
  return { item, text, words, strip: missing ? null : strip };
}

function fill(strip) {
  for (const number of strip.video.strip) {
    strip.append(element("img", { src: frameUrl(strip.video, number), alt: "", decoding: "async",
                                  onerror: (event) => failed(event.target, strip) }));
  }
}

function failed(image, strip) {
  image.remove();
  if (strip.childElementCount) return;
  strip.classList.add("none");
  strip.textContent = "The video cannot be shown; its adapter answers without it.";
}

/** The address of an adapter, and of a time in one of its videos. */
export function hashOf(id, seconds = null, source = 0) {
  const path = id.split("/").map(encodeURIComponent).join("/");
  const at = seconds === null ? "" : `?t=${Math.round(seconds * 10) / 10}${source ? `&video=${source}` : ""}`;
  return `#${path}${at}`;
}
