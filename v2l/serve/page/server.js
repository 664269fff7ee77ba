// What the page asks the server. Errors are sentences: those of the server, or that it does not answer.

export class Refused extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const KEY = "v2l-key";
let promptForKey = null, prompting = null;

/** Has `ask(message)` called where a key is demanded; it resolves to what was typed. */
export function askForKeyWith(ask) {
  promptForKey = ask;
  const kept = sessionStorage.getItem(KEY);
  if (kept) setCookie(kept);
}

/** Pictures and videos cannot send a header; the server takes this cookie for them, and for nothing else. */
function setCookie(key) {
  document.cookie = `v2l_key=${encodeURIComponent(key)}; path=/api/; SameSite=Strict`;
}

async function newKey(message) {
  prompting ??= promptForKey(message).then((key) => {
    sessionStorage.setItem(KEY, key);
    setCookie(key);
  }).finally(() => { prompting = null; });
  await prompting;
}

/** The path of an id: its slashes stay. */
export const pathOf = (id) => id.split("/").map(encodeURIComponent).join("/");

export const frameUrl = (video, number) => `/api/frames/${pathOf(video.id)}/${number}?v=${video.modified}`;
export const videoUrl = (video, source) => `/api/video/${pathOf(video.id)}/${source}?v=${video.modified}`;

/** A response that is no error. Asks for the key where one is demanded. Throws Refused; AbortError. */
export async function request(path, { body, signal, headers = {} } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const sent = { ...headers, ...(key ? { Authorization: `Bearer ${key}` } : {}),
                   ...(body ? { "Content-Type": "application/json" } : {}) };
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", body: body && JSON.stringify(body), signal,
                                     headers: sent, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The server does not answer; is v2l serve still running?", 0);
    }
    if (response.ok || response.status === 304) return response;
    const refused = await refusal(response);
    if (response.status !== 401) throw refused;
    await newKey(key ? refused.message : "");
  }
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return new Refused(error.message, response.status, error.code);
  } catch {
    return new Refused(`The server answered with status ${response.status}.`, response.status);
  }
}

export const json = async (path, options) => (await request(path, options)).json();

let tag = null;

/** The library's listing; null where it is what it was. */
export async function listing() {
  const response = await request("/api/library", { headers: tag ? { "If-None-Match": tag } : {} });
  if (response.status === 304) return null;
  tag = response.headers.get("ETag");
  return (await response.json()).videos;
}

/** The JSON documents of a stream of events, up to [DONE]. Throws Refused for one that tells of an error, or where the
    stream breaks off. */
export async function* stream(path, body, signal) {
  const response = await request(path, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Refused("The server broke off in the middle of the answer.", 0);
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart()).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const document = JSON.parse(data);
        if (document.error) throw new Refused(document.error.message, 200, document.error.code);
        yield document;
      }
    }
  } catch (error) {
    if (error instanceof TypeError) throw new Refused("The server broke off in the middle of the answer.", 0);
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
}
