/** What happened, in order: one JSON object a line, for the checker's reader and for people. */
export class History {
  readonly #file: Deno.FsFile;
  readonly #started = performance.now();

  constructor(readonly path: string) {
    this.#file = Deno.openSync(path, { create: true, append: true });
  }

  /** @param fields of the entry; what time it is (ms since the start) is added */
  add(kind: string, fields: Record<string, unknown> = {}): void {
    const at = Math.round(performance.now() - this.#started);
    this.#file.writeSync(new TextEncoder().encode(JSON.stringify({ at, kind, ...fields }) + "\n"));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
