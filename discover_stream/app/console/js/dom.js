// Elements, toasts and dialogs. Text only ever becomes text nodes: nothing that a camera or a task says is read as HTML.

export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled" || key === "hidden") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

export function toast(words, bad = false) {
  const element = h(bad ? "div.toast.bad" : "div.toast", {}, words);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 8000 : 4000);
}

// A form in a dialog. `send` gets the form's data; what it throws is shown in the dialog, which then stays open.
export function ask(title, fields, action, send) {
  const problem = h("p.problem", { hidden: true, role: "alert" });
  const submit = h("button.main", { type: "submit" }, action);
  const form = h("form", { method: "dialog" }, h("h2", {}, title), fields, problem,
    h("div.end", {}, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), submit));
  const dialog = h("dialog", { "aria-label": title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.hidden = true;
    try {
      await send(new FormData(form), form);
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      submit.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function field(label, input, hint) {
  return h("label.field", {}, h("span", {}, label), input, hint ? h("small", {}, hint) : null);
}

// Calls `work` now and then again, `ms` after it ended, until the page is left or hidden windows come back.
export function repeat(ms, work, signal) {
  const turn = async () => {
    if (signal.aborted) return;
    if (!document.hidden) {
      try { await work(); } catch (error) { if (error.name !== "AbortError") console.warn(error); }
    }
    if (!signal.aborted) setTimeout(turn, ms);
  };
  return turn();
}
