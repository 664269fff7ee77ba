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

/** Text in which the times are buttons that call `seek` with seconds and a source: of several videos, that which is
    named after the time, as in `0:05 to 0:10 of b.mp4`. */
export function withTimes(text, sources, seek) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(TIME)) {
    const seconds = Number(match[1] ?? 0) * 3600 + Number(match[2]) * 60 + Number(match[3] + (match[4] ?? ""));
    const rest = text.slice(match.index).split("\n")[0];
    const places = sources.map((name) => rest.indexOf(` of ${name}`)).map((at) => (at < 0 ? Infinity : at));
    const source = Math.max(0, places.indexOf(Math.min(...places)));
    parts.push(text.slice(end, match.index));
    parts.push(element("button", { type: "button", class: "time", "aria-label": `Go to ${match[0]}`,
                                   onclick: () => seek(seconds, source) }, match[0]));
    end = match.index + match[0].length;
  }
  parts.push(text.slice(end));
  return parts;
}
