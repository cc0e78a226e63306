// Completion offers subjects for the pattern that is being typed, in a box that
// holds several of them with blanks between (the ARIA combobox with a listbox).

import { element } from "./words.js";

const MOST = 60; // offers at a time

// candidates returns what there is to offer: [{text, kind, note}], the more
// general first. onPick is called when one was taken.
export class Completion {
  #at = -1; // the offer that is chosen
  #offers = [];

  constructor(input, box, { candidates, onPick }) {
    Object.assign(this, { input, box, candidates, onPick });
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-expanded", "false");
    input.setAttribute("aria-controls", box.id);
    input.addEventListener("focus", () => this.show());
    input.addEventListener("input", () => this.show());
    input.addEventListener("click", () => this.show());
    input.addEventListener("blur", () => this.hide());
    input.addEventListener("keydown", (event) => this.#onKey(event));
    box.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // the input keeps the focus
      const offer = event.target.closest("[role=option]");
      if (offer) this.#take(Number(offer.dataset.at));
    });
  }

  get open() {
    return !this.box.hidden;
  }

  // show offers what fits the pattern at the caret.
  show() {
    const { text } = this.#word();
    const taken = new Set(this.input.value.split(/[\s,]+/));
    taken.delete(text);
    const all = this.candidates().filter((offer) => !taken.has(offer.text));
    const wanted = text.toLowerCase().replace(/[*>]$/, ""); // behind a wildcard stands what it stands for
    const starts = all.filter((offer) => offer.text.toLowerCase().startsWith(wanted) && offer.text !== text);
    const holds = wanted === "" ? [] : all.filter((offer) => offer.text.toLowerCase().indexOf(wanted) > 0);
    this.#offers = [...starts, ...holds].slice(0, MOST);
    this.#at = -1;
    this.box.replaceChildren(
      ...this.#offers.map((offer, i) => {
        const option = element("li", "", element("span", "text", ...split(offer.text, wanted)), element("span", "note", offer.note));
        option.id = `${this.box.id}-${i}`;
        option.dataset.at = i;
        option.dataset.kind = offer.kind;
        option.setAttribute("role", "option");
        option.setAttribute("aria-selected", "false");
        return option;
      }),
    );
    this.#expand(this.#offers.length > 0 && document.activeElement === this.input);
  }

  hide() {
    this.#expand(false);
  }

  #expand(open) {
    this.box.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
    if (!open) this.input.removeAttribute("aria-activedescendant");
  }

  #onKey(event) {
    if (event.key === "Escape" && this.open) {
      this.hide();
      event.preventDefault();
      event.stopPropagation();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !event.altKey) {
      event.preventDefault();
      if (!this.open) this.show();
      else this.#choose(this.#at + (event.key === "ArrowDown" ? 1 : -1));
    } else if ((event.key === "Enter" || event.key === "Tab") && this.open && this.#at >= 0) {
      event.preventDefault();
      this.#take(this.#at);
    }
  }

  #choose(at) {
    const count = this.#offers.length;
    if (count === 0) return;
    this.box.children[this.#at]?.setAttribute("aria-selected", "false");
    this.#at = (at + count + (this.#at < 0 && at < 0 ? 1 : 0)) % count;
    const option = this.box.children[this.#at];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  #take(at) {
    const { from, to } = this.#word();
    const { value } = this.input;
    const { text } = this.#offers[at];
    const rest = value.slice(to).trimStart();
    this.input.value = `${value.slice(0, from)}${text} ${rest}`;
    this.input.setSelectionRange(from + text.length + 1, from + text.length + 1);
    this.hide();
    this.onPick();
  }

  // word is the pattern at the caret.
  #word() {
    const { value } = this.input;
    const caret = this.input.selectionStart ?? value.length;
    const from = value.slice(0, caret).search(/[^\s,]*$/);
    const to = caret + value.slice(caret).search(/[\s,]|$/);
    return { text: value.slice(from, caret), from, to };
  }
}

function split(text, wanted) {
  const at = wanted === "" ? -1 : text.toLowerCase().indexOf(wanted);
  if (at < 0) return [text];
  return [text.slice(0, at), element("b", "", text.slice(at, at + wanted.length)), text.slice(at + wanted.length)];
}

// offersFor lists what streams have: all of it, each stream's subject space, what
// real subjects begin with, and the subjects themselves. seen are subjects that
// the page has met.
export function offersFor(streams, seen) {
  const offers = new Map([[">", { text: ">", kind: "all", note: "everything" }]]);
  const add = (text, kind, note) => offers.has(text) || offers.set(text, { text, kind, note });
  for (const stream of streams) {
    for (const pattern of stream.subjects ?? []) {
      if (/[*>]/.test(pattern)) add(pattern, "space", `all of ${stream.name}`);
    }
  }
  const subjects = new Map();
  for (const stream of streams) for (const subject of stream.recent ?? []) subjects.set(subject, stream.name);
  for (const [subject, stream] of seen) subjects.set(subject, stream);
  const branches = new Map();
  for (const subject of subjects.keys()) {
    const tokens = subject.split(".");
    for (let n = 1; n < tokens.length; n++) {
      const branch = `${tokens.slice(0, n).join(".")}.>`;
      branches.set(branch, (branches.get(branch) ?? 0) + 1);
    }
  }
  for (const [branch, n] of [...branches].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (n > 1) add(branch, "branch", `${n} subjects`);
  }
  for (const [subject, stream] of [...subjects].sort(([a], [b]) => (a < b ? -1 : 1))) add(subject, "subject", stream);
  return [...offers.values()];
}

// faultOf says what is wrong with a pattern, "" if nothing.
export function faultOf(pattern) {
  const tokens = pattern.split(".");
  if (tokens.includes("")) return `${pattern}: a token between dots is empty`;
  if (tokens.slice(0, -1).includes(">")) return `${pattern}: > stands for the rest, so it comes last`;
  const mixed = tokens.find((token) => token.length > 1 && /[*>]/.test(token));
  return mixed === undefined ? "" : `${pattern}: * and > stand for whole tokens, not for a part of ${mixed}`;
}
