/** The last lines that a server wrote to stderr and its build printed, fit to be shown. */

const LINES = 100;
const LINE_LENGTH = 2000;
const RENEWED_KEPT = 4;

/** Read of stderr in a second; what a server writes above it is dropped (docker_attach.ts). */
const BYTES_PER_SECOND = 256 * 1024;

/** Bidirectional and zero-width characters, which make a line read as what it is not. */
// deno-lint-ignore no-control-regex
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export class LogTail {
  readonly #lines: string[] = [];
  #secrets: RegExp | null = null;
  readonly #forms = new Set<string>();
  /** Forms of values that are renewed, the newest last. */
  #renewed: Set<string>[] = [];
  /** Longest part of a line that is looked at: a secret that straddles the cut is still masked. */
  #scanLength = LINE_LENGTH;

  /**
   * @param onChange called after lines were added
   * @param onLine called with each line, as it is shown
   */
  constructor(readonly onChange: () => void, readonly onLine: (line: string) => void = () => {}) {}

  get lines(): string[] {
    return [...this.#lines];
  }

  /** Masks these values too from now on: the old ones, because what has them may still speak. */
  maskValues(values: string[]): void {
    this.#addForms(values, this.#forms);
    this.#compile();
  }

  /** As {@link maskValues}, of values that are renewed all the time: of them the last few. */
  maskRenewed(values: string[]): void {
    const forms = new Set<string>();
    this.#addForms(values, forms);
    this.#renewed = [...this.#renewed, forms].slice(-RENEWED_KEPT);
    this.#compile();
  }

  #addForms(values: string[], forms: Set<string>): void {
    for (const value of values) {
      // A secret of several lines (a PEM key) is seen a line at a time.
      for (const part of [value, ...value.split(/\r?\n/)]) {
        if (part.trim().length < 1) continue;
        forms.add(part)
          .add(encodeURIComponent(part.toWellFormed()))
          .add(JSON.stringify(part).slice(1, -1))
          // As a host's name is written in which a server sends it away.
          .add(part.toLowerCase());
      }
    }
  }

  #compile(): void {
    const forms = this.#renewed.reduce((all, each) => all.union(each), this.#forms);
    const longestFirst = [...forms].sort((a, b) => b.length - a.length);
    this.#scanLength = LINE_LENGTH + (longestFirst[0]?.length ?? 0);
    this.#secrets = longestFirst.length === 0 ? null : new RegExp(
      longestFirst.map((form) =>
        // A value of a few characters is masked as a word of its own: "1" is in every other line.
        form.length < 4 ? `(?<!\\w)${RegExp.escape(form)}(?!\\w)` : RegExp.escape(form)
      ).join("|"),
      "g",
    );
  }

  /** Text for a person: secrets masked, control characters visible, cut to `length` characters. */
  clean(text: string, length = LINE_LENGTH): string {
    let scanned = text.slice(0, this.#scanLength);
    if (this.#secrets) scanned = scanned.replace(this.#secrets, "••••");
    scanned = scanned.replace(HIDDEN, (character) => {
      const code = character.charCodeAt(0);
      if (code === 9) return "  ";
      return code < 32
        ? String.fromCharCode(0x2400 + code)
        : `\\u{${code.toString(16).padStart(4, "0")}}`;
    });
    return scanned.length > length ? scanned.slice(0, length - 1) + "…" : scanned;
  }

  add(line: string): void {
    const shown = this.clean(line.replace(/\r$/, ""));
    this.#lines.push(shown);
    this.onLine(shown);
    if (this.#lines.length > LINES) this.#lines.shift();
    this.onChange();
  }

  /** Reads a stream to its end, at its own pace: a flood costs its writer lines, not DTMA its CPU. */
  async follow(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let pending = "";
    // The monotonic clock: one that is set back must not keep a server waiting to be read.
    let allowance = BYTES_PER_SECOND, since = performance.now();
    for await (const chunk of stream) {
      const lines = (pending + decoder.decode(chunk, { stream: true })).split("\n");
      pending = lines.pop()!.slice(0, this.#scanLength);
      for (const line of lines.slice(-LINES)) this.add(line);
      allowance -= chunk.length;
      if (allowance > 0) continue;
      const rest = since + 1000 - performance.now();
      if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
      allowance = BYTES_PER_SECOND;
      since = performance.now();
    }
    if (pending) this.add(pending);
  }
}
