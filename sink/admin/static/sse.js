// The text of an event stream, piece by piece, as the HTML standard reads it
// (sections 9.2.5 and 9.2.6). EventSource does the same, but hides events whose
// names are not known beforehand, comments, the retry field, and all sizes.

// A Parser is fed the bytes of one response and hands on what they complete:
//
//   onEvent({name, data, id, bytes})  a block; id is the last event id behind it,
//                                     bytes the size of the block as sent
//   onComment(text)                   a line that begins with a colon
//   onRetry(ms)                       the time after which to come back
//
// An id counts from the blank line on that ends its block: a cut before it
// leaves the id before. Bytes that are not UTF-8 become U+FFFD.
export class Parser {
  #decoder = new TextDecoder(); // takes away one byte order mark, as the standard says
  #encoder = new TextEncoder();
  #rest = ""; // of a line that has not ended
  #afterCR = false; // the next LF belongs to the line end before
  #data = [];
  #name = "";
  #id = "";
  #bytes = 0;

  constructor({ onEvent, onComment = () => {}, onRetry = () => {}, lastID = "" }) {
    Object.assign(this, { onEvent, onComment, onRetry });
    this.lastID = lastID; // what a reconnect sends
    this.#id = lastID;
  }

  feed(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text === "" ? false : text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#rest + lines[0]; // not split again: a long line comes in many pieces
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") {
      this.#dispatch();
      return;
    }
    this.#bytes += this.#size(line) + 1;
    const colon = line.indexOf(":");
    if (colon === 0) {
      this.onComment(line.slice(line[1] === " " ? 2 : 1));
      if (this.#data.length === 0 && this.#name === "") this.#bytes = 0; // a comment between blocks is no part of one
      return;
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    switch (field) {
      case "event":
        this.#name = value;
        break;
      case "data":
        this.#data.push(value);
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.onRetry(Number(value));
        break;
    }
  }

  #dispatch() {
    this.lastID = this.#id;
    const event = { name: this.#name || "message", data: this.#data, id: this.lastID, bytes: this.#bytes + 1 };
    this.#data = [];
    this.#name = "";
    this.#bytes = 0;
    if (event.data.length === 0) return;
    event.data = event.data.length === 1 ? event.data[0] : event.data.join("\n");
    this.onEvent(event);
  }

  #size(line) {
    for (let i = 0; i < line.length; i++) {
      if (line.charCodeAt(i) > 127) return this.#encoder.encode(line).length;
    }
    return line.length;
  }
}
