// One video open: the player, or the frames that were seen where it cannot play; the strip, and the segments in time.

import { frameUrl, videoUrl } from "./server.js";
import { at, briefly, count, element, sourceOf, stretch } from "./words.js";

/** What is shown of an adapter's videos. `onSegment(segment or null)` is called when another one is chosen, `onTime`
    with seconds and a source when one is gone to. */
export class Film {
  constructor(stage, films, { onSegment, onTime }) {
    Object.assign(this, { stage, films, onSegment, onTime });
    this.video = null;
  }

  /** Shows an adapter; `frames` are those that were seen. */
  open(video, frames) {
    Object.assign(this, { video, frames, source: -1, at: 0, segment: null, answered: [], unplayable: new Set() });
    this.draw();
    const first = video.segments[0];
    this.show(first ? first.source : 0, first ? first.start : 0);
  }

  /** Shows what has become of the adapter that is open; a video that plays goes on. */
  update(video, frames) {
    const there = (one) => JSON.stringify([one.sources[this.source]?.name, one.sources[this.source]?.video]);
    const same = there(video) === there(this.video);
    Object.assign(this, { video, frames });
    this.draw();
    if (this.segment) this.choose(video.segments.find((one) => one.source === this.segment.source
      && one.start === this.segment.start) ?? null);
    if (same) this.mark();
    else {
      this.unplayable.delete(this.source);
      const source = Math.min(this.source, video.sources.length - 1);
      this.source = -1;
      this.show(source, this.at);
    }
  }

  /** Lets go of the player, so that it stops. */
  close() {
    this.player?.removeAttribute("src");
    this.player?.load();
    this.player = null;
    this.video = null;
    this.stage.replaceChildren();
    this.films.replaceChildren();
  }

  /** Goes to a time of a source. */
  seek(seconds, source = this.source) {
    this.show(source, seconds);
    this.choose(this.video.segments.find((one) => one.source === source && one.start <= seconds && seconds < one.end)
      ?? null);
    this.onTime(seconds, source);
  }

  // -- the stage --------------------------------------------------------------------------------------------------

  show(source, seconds) {
    this.at = seconds;
    if (source === this.source && this.player) this.player.currentTime = seconds;
    else if (source !== this.source) {
      this.source = source;
      this.fillStage();
    }
    if (!this.player) this.showFrame();
    this.mark();
  }

  fillStage() {
    const { name, video, started } = this.video.sources[this.source];
    this.player = null;
    if (started && !video) {
      this.stage.replaceChildren(element("p", { class: "absent" },
        `${name} was watched live, and no video of it was kept. It can be asked: the answers come from the adapter.`));
    } else if (!video) {
      this.stage.replaceChildren(element("p", { class: "absent" },
        `${name} is not beside its adapter any more, or has changed since. It can be asked all the same: the answers come `
        + "from the adapter."));
    } else if (this.unplayable.has(this.source)) this.showStill(name);
    else {
      const player = element("video", { controls: true, playsinline: true, preload: "metadata", "aria-label": name,
                                        src: videoUrl(this.video, this.source) });
      player.onloadedmetadata = () => { if (this.at) player.currentTime = this.at; };
      player.ontimeupdate = () => { this.at = player.currentTime; this.mark(); };
      player.onerror = () => { this.unplayable.add(this.source); this.fillStage(); this.showFrame(); };
      this.player = player;
      this.stage.replaceChildren(player);
    }
  }

  showStill(name) {
    this.image = element("img", { alt: "" });
    this.image.onerror = () => {
      this.stage.replaceChildren(element("p", { class: "absent" },
        `${name} has changed since it was watched, so nothing is shown of it. The answers come from the adapter.`));
    };
    this.caption = element("p", { class: "caption" });
    this.stage.replaceChildren(this.image, this.caption);
    this.caption.prepend(`This browser cannot play ${name}. `, element("span"));
  }

  /** The frame that was seen last before the time, in place of the player. */
  showFrame() {
    const shown = this.nearest();
    if (!this.unplayable?.has(this.source) || shown === null) return;
    this.image.src = frameUrl(this.video, shown);
    const when = at(this.video.sources[this.source], this.frames[shown].time);
    this.image.alt = `Frame at ${when}`;
    this.caption.lastElementChild.textContent = `Frame at ${when}, as it was seen.`;
  }

  nearest() {
    let best = null;
    this.frames.forEach((frame, number) => {
      const away = Math.abs(frame.time - this.at);
      if (frame.source === this.source && (best === null || away < Math.abs(this.frames[best].time - this.at))) best = number;
    });
    return best;
  }

  // -- strips and timelines ---------------------------------------------------------------------------------------

  draw() {
    const focused = document.activeElement?.dataset?.place, several = this.video.sources.length > 1;
    this.films.replaceChildren(...this.video.sources.map((source, number) => element("section",
      { class: "film", "aria-label": source.name },
      several ? element("h2", {}, source.name) : null,
      source.video ? this.strip(number) : null,
      this.timeline(number))));
    if (focused) this.films.querySelector(`[data-place="${focused}"]`)?.focus();
    this.setAnswered(this.answered);
    this.setHits(this.hits ?? []);
  }

  strip(source) {
    const own = this.frames.map((frame, number) => [frame, number]).filter(([frame]) => frame.source === source);
    const few = Math.min(own.length, 12);
    const shown = [...Array(few).keys()].map((i) => own[few > 1 ? Math.floor(i * (own.length - 1) / (few - 1)) : 0]);
    const strip = element("div", { class: "strip seen", role: "group", "aria-label": "Frames that were seen" },
      shown.map(([frame, number]) => element("button",
        { type: "button", "data-place": `frame-${number}`, "aria-label": `Frame at ${at(this.video.sources[source], frame.time)}`,
          onclick: () => this.seek(frame.time, source) },
        element("img", { src: frameUrl(this.video, number), alt: "", decoding: "async",
                         onerror: () => strip.remove() }),
        element("span", { "aria-hidden": "true" }, briefly(this.video.sources[source], frame.time)))));
    return strip;
  }

  timeline(source) {
    const own = this.video.sources[source], { duration, name, started } = own;
    const segments = this.video.segments.filter((one) => one.source === source);
    // Of what was watched live the beginning may have been let go, and what comes after the last segment is not there yet.
    const first = started ? Math.min(...segments.map((one) => one.start)) : 0;
    const last = Math.max(started ? first : duration, ...segments.map((one) => one.end));
    const length = last - first || 1;
    const percent = (seconds) => `${Math.min(100, Math.max(0, 100 * (seconds - first) / length))}%`;
    const wide = (segment) => `${Math.min(100, 100 * (segment.end - segment.start) / length)}%`;
    const bar = element("div", { class: "bar", role: "group",
                                 "aria-label": `${count(segments.length, "segment")} of ${name}; arrow keys move between them` });
    const buttons = segments.map((segment, number) => {
      const button = element("button", { type: "button", class: "segment", "data-place": `segment-${source}-${number}`,
        tabindex: number ? -1 : 0, title: stretch(own, segment.start, segment.end), "aria-pressed": "false",
        "aria-label": `Segment ${number + 1} of ${segments.length}, ${stretch(own, segment.start, segment.end).replace("–", " to ")}`,
        onclick: (event) => this.pressed(event, segment, bar, first, length) });
      button.style.left = percent(segment.start);
      button.style.width = wide(segment);
      button.segment = segment;
      if (segments.length <= 12) button.append(element("span", {}, briefly(own, segment.start)));
      return button;
    });
    bar.onkeydown = (event) => move(event, buttons);
    const head = element("div", { class: "playhead" });
    bar.append(...buttons, head);
    const lane = element("div", { class: "lane" });
    return Object.assign(element("div", { class: "timeline", "data-source": source }, lane, bar,
      element("div", { class: "ticks", "aria-hidden": "true" }, ...[first, first + length / 2, first + length]
        .map((seconds) => element("span", {}, briefly(own, seconds))))), { percent, wide });
  }

  /** A segment is gone to at its beginning with the keyboard, where it was pressed with a pointer. */
  pressed(event, segment, bar, first, length) {
    const { left, width } = bar.getBoundingClientRect();
    const at = event.detail ? first + (event.clientX - left) / width * length : segment.start;
    const again = this.segment && this.segment.start === segment.start && this.segment.source === segment.source;
    this.seek(Math.min(Math.max(at, segment.start), segment.end - 0.001), segment.source);
    if (again && !event.detail) this.choose(null);
  }

  choose(segment) {
    this.segment = segment;
    for (const button of this.films.querySelectorAll(".segment")) {
      const chosen = segment !== null && button.segment.source === segment.source && button.segment.start === segment.start;
      button.setAttribute("aria-pressed", chosen);
      if (chosen) for (const other of button.parentElement.querySelectorAll(".segment")) other.tabIndex = other === button ? 0 : -1;
    }
    this.onSegment(segment);
  }

  /** Moves the playhead and marks the frame of the strip that is nearest to it. */
  mark() {
    const nearest = this.nearest();
    for (const timeline of this.films.querySelectorAll(".timeline")) {
      const head = timeline.querySelector(".playhead");
      head.hidden = Number(timeline.dataset.source) !== this.source;
      head.style.left = timeline.percent(this.at);
    }
    const shown = [...this.films.querySelectorAll(".seen button")];
    const near = shown.findLast((button) => Number(button.dataset.place.slice(6)) <= nearest
      && this.frames[Number(button.dataset.place.slice(6))].source === this.source);
    for (const button of shown) button.classList.toggle("now", button === near);
  }

  /** Marks the segments that answered: [{file, start, end}]. */
  setAnswered(by) {
    this.answered = by;
    const places = by.map((one) => ({ ...one, source: sourceOf(one, this.video.sources) }));
    for (const button of this.films.querySelectorAll(".segment")) {
      const { source, start, end } = button.segment;
      button.classList.toggle("answered", places.some((one) => one.source === source
        && one.start < end - 0.01 && one.end > start + 0.01));
    }
  }

  /** Marks what was found: [{source, start, end, score}], the best deepest. */
  setHits(hits) {
    this.hits = hits;
    const scores = hits.map((hit) => hit.score), [low, high] = [Math.min(...scores), Math.max(...scores)];
    for (const timeline of this.films.querySelectorAll(".timeline")) {
      timeline.querySelector(".lane").replaceChildren(...hits
        .filter((hit) => hit.source === Number(timeline.dataset.source)).map((hit) => {
          const made = element("button", { type: "button", class: "hit", tabindex: -1, "aria-hidden": "true",
                                           title: stretch(this.video.sources[hit.source], hit.start, hit.end),
                                           onclick: () => this.seek(hit.start, hit.source) });
          made.style.left = timeline.percent(hit.start);
          made.style.width = timeline.wide(hit);
          made.style.opacity = high > low ? 0.4 + 0.6 * (hit.score - low) / (high - low) : 1;
          return made;
        }));
    }
  }
}

/** Arrow keys, Home and End move between the segments of a bar; Tab leaves it. */
function move(event, buttons) {
  const now = buttons.indexOf(event.target), last = buttons.length - 1;
  const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: last }[event.key];
  if (to === undefined || now < 0) return;
  event.preventDefault();
  const target = buttons[Math.min(Math.max(to, 0), last)];
  for (const button of buttons) button.tabIndex = button === target ? 0 : -1;
  target.focus();
}
