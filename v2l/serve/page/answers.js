// Questions to the video that is open, and the answers as they come: newest first, the direct one beside the adapter's.

import { stream } from "./server.js";
import { byId, dayOf, element, moment, sourceOf, stretch, withTimes } from "./words.js";

/** Asks and shows. `film` is gone to and marked; `current()` is the adapter that is open. */
export class Answers {
  constructor(film, current) {
    Object.assign(this, { film, current });
    this.box = byId("answers");
    this.running = new Set();
    const question = byId("question");
    byId("ask").onsubmit = (event) => { event.preventDefault(); this.ask(); };
    question.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.ask(); }
    };
  }

  /** Ends what is still coming, and forgets all. */
  clear() {
    for (const abort of this.running) abort.abort();
    this.box.replaceChildren();
    byId("live").textContent = "";
  }

  ask() {
    const field = byId("question"), question = field.value.trim(), video = this.current();
    if (!video) return;
    if (!question) { field.focus(); return; }
    const segment = byId("only").checked && !byId("only-choice").hidden ? this.film.segment : null;
    const there = byId("direct").checked ? withVideo(video).filter((number) => !segment || number === segment.source) : [];
    const sides = element("div", { class: there.length ? "sides two" : "sides" });
    this.box.prepend(element("article", { class: "answer" }, element("h2", {}, question,
      segment ? element("span", { class: "soft" }, ` ${stretch(video.sources[segment.source], segment.start, segment.end, dayOf(video))}`)
        : null), sides));
    field.select();
    const own = { strategy: byId("strategy").value, ...(segment ? within(segment, video.sources[segment.source]) : {}) };
    this.put(sides, there.length ? "from the adapter" : "", video, "/v1/chat/completions",
             { model: video.id, messages: [{ role: "user", content: question }], stream: true, v2l: own });
    this.putDirect(sides, there, video, { id: video.id, question, stream: true,
                                          ...(segment ? { from: segment.start, to: segment.end } : {}) });
  }

  /** The answers of the videos themselves, one after the other: the server looks at one at a time. Whoever stops one
      stops those after it. */
  async putDirect(sides, there, video, body) {
    for (const source of there) {
      const title = video.sources.length > 1 ? `from ${video.sources[source].name}` : "from the video";
      if (!await this.put(sides, title, video, "/api/direct", { ...body, source })) return;
    }
  }

  /** One answer, as it comes; whether nobody stopped it. */
  async put(sides, title, video, path, body) {
    const abort = new AbortController();
    const text = element("p", { class: "text", "aria-busy": "true" }), facts = element("p", { class: "facts" });
    const stop = element("button", { type: "button", class: "quiet", onclick: () => abort.abort() }, "Stop");
    sides.append(element("section", { "aria-label": title || "answer" }, title ? element("h3", {}, title) : null, text,
                         element("div", { class: "under" }, facts, stop)));
    text.append(element("span", { class: "waiting", role: "img", "aria-label": "waiting" }));
    this.running.add(abort);
    const started = performance.now();
    let said = "", own = null, finish = null, first = 0;
    try {
      for await (const chunk of stream(path, body, abort.signal)) {
        const choice = chunk.choices[0];
        if (choice?.delta.content) {
          first ||= performance.now() - started;
          said += choice.delta.content;
          text.textContent = said;
        }
        own = chunk.v2l ?? own;
        finish = choice?.finish_reason ?? finish;
      }
      this.finished(text, facts, said, video, own, finish, [first, performance.now() - started]);
      if (video.id === this.current()?.id) {
        if (own?.answered_by) this.film.setAnswered(own.answered_by);
        byId("live").textContent = `${title ? `Answer ${title}` : "Answer"}: ${said || "nothing"}`;
      }
      return true;
    } catch (error) {
      if (!said) text.textContent = "";
      if (error.name === "AbortError") facts.textContent = "stopped";
      else {
        facts.textContent = error.message;
        facts.classList.add("warning");
        byId("live").textContent = error.message;
      }
      return error.name !== "AbortError";
    } finally {
      this.running.delete(abort);
      stop.remove();
      text.removeAttribute("aria-busy");
    }
  }

  finished(text, facts, said, video, own, finish, [first, whole]) {
    const { sources } = video, live = sources.some((source) => source.started);
    const seek = (seconds, source) => this.film.seek(seconds, source), by = own?.answered_by ?? [];
    const lines = by.filter((one) => one.answer !== undefined);
    if (own?.strategy === "timeline" && lines.length) {
      text.replaceChildren(...lines.map((one) => element("span", { class: live ? "line live" : "line" },
        this.chip(one, video), one.answer)));
    } else text.replaceChildren(...withTimes(said || "(nothing)", sources, seek));
    if (finish === "length") text.append(element("span", { class: "soft" }, " …"));
    const how = { join: by.length > 1 ? "all segments joined" : "", each: "one answer made of all segments'" }[own?.strategy];
    const took = (ms) => `${(ms / 1000).toFixed(ms < 95 ? 2 : ms < 9950 ? 1 : 0)} s`;
    const cost = first && whole - first > 200 ? `${took(whole)}, first word after ${took(first)}` : took(whole);
    const some = own?.segments ?? (by.length === 1 ? by : []), chips = lines.length || !some.length || by.length > 24 ? [] : by;
    facts.append(...(chips.length ? ["answered by ", ...chips.flatMap((one) => [this.chip(one, video), " "])] : []),
                 element("span", {}, [how, own?.foreign ? "made up: the model knows nothing of this video" : "", cost]
                   .filter(Boolean).join(" · ")));
  }

  /** A button that goes to a stretch of a video. */
  chip(one, video) {
    const { sources } = video, number = sourceOf(one, sources);
    const text = stretch(sources[number], one.start, one.end, dayOf(video));
    return element("button", { type: "button", class: "time", "aria-label": `Go to ${text}`,
      onclick: () => this.film.seek(one.start, number) }, text,
      new Set(sources.map((source) => source.name)).size > 1 ? ` ${one.file}` : null);
  }
}

/** Numbers of an adapter's videos that are there to be asked themselves. */
export function withVideo(video) {
  return [...video.sources.keys()].filter((number) => video.sources[number].video);
}

/** The range of time that a segment alone overlaps: of a live source by the clock, since others count seconds, too. */
function within(segment, source) {
  if (!source.started) return { from: segment.start, to: segment.end };
  const [from, to] = [segment.start + 0.002, segment.end - 0.002].map((at) => new Date(moment(source, at)).toISOString());
  return { from, to };
}
