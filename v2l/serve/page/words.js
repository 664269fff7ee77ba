// Numbers, times and elements of the page, each made in one way.

/** An element with attributes, properties (onclick ...) and children; null children are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** A point in a video: 0:05, 12:30.5, 1:02:03. */
export function time(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  const whole = Math.floor(tenths / 10), two = (n) => String(n).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const text = hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
  return tenths % 10 ? `${text}.${tenths % 10}` : text;
}

/** The same, rounded to whole seconds. */
export const clock = (seconds) => time(Math.round(seconds));

export const span = (start, end) => `${time(start)}–${time(end)}`;

// What was watched live tells its times by the clock of the server's machine, as answers do: `started` of its source is
// the moment of 0 s, as 2026-11-28T14:00:00.250+01:00.

const began = (source) => Date.parse(`${source.started.slice(0, 23)}Z`);

/** A time of a source: 0:05, or of a live one 2026-11-28 14:00:05. */
export const at = (source, seconds) => source?.started
  ? new Date(began(source) + 1000 * seconds).toISOString().slice(0, 19).replace("T", " ") : time(seconds);

/** The same for where there is little room: 14:00:05. */
export const briefly = (source, seconds) => source?.started ? at(source, seconds).slice(11) : clock(seconds);

/** A stretch of a source: 0:05–0:10, or of a live one 2026-11-28 14:00:05–14:00:10, without a day that goes without
    saying. */
export function stretch(source, start, end, day = "") {
  if (!source?.started) return span(start, end);
  const [from, to] = [at(source, start), at(source, end)], days = new Set([from, to].map((text) => text.slice(0, 10)));
  if (days.size > 1) return `${from}–${to}`;
  return `${days.has(day) ? from.slice(11) : from}–${to.slice(11)}`;
}

/** The day of all that is kept of an adapter, if that is one. */
export function dayOf({ sources, segments }) {
  const days = new Set(segments.flatMap((one) => [one.start, one.end].map(
    (seconds) => sources[one.source].started ? at(sources[one.source], seconds).slice(0, 10) : "")));
  return days.size === 1 ? [...days][0] : "";
}

/** The moment of a time of a live source, in milliseconds since 1970. */
export const moment = (source, seconds) => Date.parse(source.started) + 1000 * seconds;

/** The source that a stretch of an answer is of: {file, start, started_at}; one camera may have been watched twice. */
export function sourceOf(one, sources) {
  const live = one.started_at && sources.findIndex((source) => source.name === one.file && source.started
    && Math.abs(moment(source, one.start) - Date.parse(one.started_at)) < 5);
  return Math.max(0, one.started_at && live >= 0 ? live : sources.findIndex((source) => source.name === one.file));
}

/** Bytes in three digits: 999 bytes, 8.1 MB. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${["", "kB", "MB", "GB", "TB"][power]}`;
}

/** 1 segment, 2 segments. */
export const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

/** An id as two elements: the folders it is in, quietly, and its name. */
export function named(id) {
  const cut = id.lastIndexOf("/") + 1;
  return [cut ? element("span", { class: "folder" }, id.slice(0, cut)) : null, element("b", {}, id.slice(cut))];
}

const TIME = /(?<![\d:.])(?:(\d{1,3}):)?(\d{1,2}):([0-5]\d)(\.\d+)?(?![\d:])/g;

const DAY = /(\d{4}-\d\d-\d\d) $/;

/** Text in which the times are buttons that call `seek` with seconds and the number of a source: of several videos, that
    which is named after the time, as in `0:05 to 0:10 of b.mp4`; of live ones, that which saw the moment. */
export function withTimes(text, sources, seek) {
  const parts = [];
  let end = 0, day = null;
  for (const match of text.matchAll(TIME)) {
    day = DAY.exec(text.slice(0, match.index))?.[1] ?? day;
    const seconds = Number(match[1] ?? 0) * 3600 + Number(match[2]) * 60 + Number(match[3] + (match[4] ?? ""));
    const place = (day && match[1] ? placeOf(`${day}T${match[0]}`, sources) : null)
      ?? [seconds, namedAfter(text.slice(match.index).split("\n")[0], sources)];
    parts.push(text.slice(end, match.index));
    parts.push(element("button", { type: "button", class: "time", "aria-label": `Go to ${match[0]}`,
                                   onclick: () => seek(...place) }, match[0]));
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}

/** Seconds and number of the last live source that had begun at a moment, whose second may have begun before. */
function placeOf(text, sources) {
  const when = Date.parse(`${text}Z`) + 999;
  const number = sources.findLastIndex((source) => source.started && began(source) <= when);
  return number < 0 ? null : [(when - began(sources[number])) / 1000, number];
}

function namedAfter(rest, sources) {
  const places = sources.map(({ name }) => rest.indexOf(` of ${name}`)).map((at) => (at < 0 ? Infinity : at));
  return Math.max(0, places.indexOf(Math.min(...places)));
}
