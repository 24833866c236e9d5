// The HTTP interface: every request of the console goes through here. docs/console.md; /v1/openapi.json has all of it.

const KEY = "discover-token";

export class ApiError extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

function headers(extra = {}) {
  return token.get() ? { ...extra, Authorization: `Bearer ${token.get()}` } : extra;
}

async function problemOf(answer) {
  let words = `${answer.status} ${answer.statusText}`;
  try {
    const body = await answer.json();
    words = body.detail || body.title || words;
    if (body.errors?.length) words = body.errors.map((each) => `${each.where}: ${each.message}`).join("; ");
  } catch { /* not JSON: the status has to do */ }
  return new ApiError(answer.status, words);
}

export async function request(method, path, { body, signal, as = "json", extra } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method, signal, cache: "no-store",
      headers: headers({ ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...extra }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The gateway does not answer. Is `discover gateway` or `discover run --http` still running?");
  }
  if (!answer.ok) {
    const error = await problemOf(answer);
    if (answer.status === 401) window.dispatchEvent(new CustomEvent("sign-in", { detail: error.message }));
    throw error;
  }
  if (as === "answer") return answer;
  if (as === "blob") return answer.blob();
  return answer.status === 204 ? null : answer.json();
}

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

const part = encodeURIComponent;

export const api = {
  me: () => request("GET", "/v1/me"),
  system: (signal) => request("GET", "/v1/system", { signal }),
  cameras: async (signal) => (await request("GET", "/v1/cameras", { signal })).cameras,
  addCamera: (camera) => request("POST", "/v1/cameras", { body: camera }),
  removeCamera: (name) => request("DELETE", `/v1/cameras/${part(name)}`),
  still: (camera, options, signal) => request("GET", `/v1/cameras/${part(camera)}/still${query(options)}`, { as: "answer", signal }),
  h264: (camera, signal) => request("GET", `/v1/cameras/${part(camera)}/h264`, { signal }),
  tasks: async (signal) => (await request("GET", "/v1/tasks", { signal })).tasks,
  task: (name, signal) => request("GET", `/v1/tasks/${part(name)}`, { signal }),
  addTask: (task) => request("POST", "/v1/tasks", { body: task }),
  setLabels: (name, labels, description) => request("PUT", `/v1/tasks/${part(name)}/labels`, { body: { labels, description } }),
  changeTask: (name, change) => request("PATCH", `/v1/tasks/${part(name)}`, { body: change }),
  removeTask: (name) => request("DELETE", `/v1/tasks/${part(name)}`),
  substreams: async (options, signal) => (await request("GET", `/v1/substreams${query(options)}`, { signal })).substreams,
  history: (options, signal) => request("GET", `/v1/substreams/history${query(options)}`, { signal }),
  replay: (order, signal) => request("POST", "/v1/replays", { body: order, signal }),
  replayState: (id, signal) => request("GET", `/v1/replays/${part(id)}`, { signal }),
  leave: (id) => request("DELETE", `/v1/replays/${part(id)}`),
  sidecar: (id, number, signal) => request("GET", `/v1/replays/${part(id)}/${number}.json`, { signal }),
  timeline: (id, signal) => request("GET", `/v1/replays/${part(id)}/timeline`, { signal }),
  export: (id) => request("POST", `/v1/replays/${part(id)}/export`, { body: {} }),
  exportState: (id) => request("GET", `/v1/exports/${part(id)}`),
};

// Packets of a task as they come. `take` gets each event's name and data; ends when `signal` says so.
export async function events(task, options, take, signal) {
  let last = null;
  while (!signal.aborted) {
    try {
      const extra = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const answer = await request("GET", `/v1/tasks/${part(task)}/events${query(options)}`, { as: "answer", signal, extra });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let held = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (held + value).replaceAll("\r\n", "\n").split("\n\n");
        held = parts.pop();
        for (const event of parts) {
          const found = { event: "message", data: "" };
          for (const line of event.split("\n")) {
            const at = line.indexOf(":"), name = line.slice(0, at), content = line.slice(at + 1).replace(/^ /, "");
            if (name === "data") found.data += (found.data ? "\n" : "") + content;
            else if (at > 0) found[name] = content;
          }
          if (found.id) last = found.id;
          if (found.data) take(found.event, JSON.parse(found.data));
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || (error.status >= 400 && error.status < 500)) return;
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}
