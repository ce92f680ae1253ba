/** A server's log on the host: what it wrote to stderr, fit to be shown, bounded. */

const FILE_BYTES = 1024 * 1024;

/** Written together: a chatty server must not cost a write a line. */
const WRITE_EVERY_MS = 500;

/** Waiting lines above this are dropped: the disk is slower than the server talks. */
const WAITING_LIMIT = 5000;

export class LogFile {
  readonly #path: string;
  #waiting: string[] = [];
  #dropped = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #writing: Promise<void> = Promise.resolve();

  /** @param directory where it is kept, with the part before it: two of a megabyte at most */
  constructor(directory: string, serverId: string) {
    this.#path = `${directory}/${serverId}.log`;
  }

  /** @param line without secrets and control characters */
  add(line: string): void {
    if (this.#waiting.length >= WAITING_LIMIT) this.#dropped++;
    else this.#waiting.push(`${new Date().toISOString()} ${line}\n`);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#writing = this.#writing.then(() => this.#write());
    }, WRITE_EVERY_MS);
  }

  /** The whole log, oldest line first. */
  async read(): Promise<string> {
    await this.#flush();
    const parts = [`${this.#path}.1`, this.#path].map((path) =>
      Deno.readTextFile(path).catch(ignoreAbsent)
    );
    return (await Promise.all(parts)).join("");
  }

  async remove(): Promise<void> {
    await this.#flush();
    for (const path of [this.#path, `${this.#path}.1`]) await Deno.remove(path).catch(ignoreAbsent);
  }

  async close(): Promise<void> {
    await this.#flush();
  }

  async #flush(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    await (this.#writing = this.#writing.then(() => this.#write()));
  }

  /** A full disk loses lines of a log and nothing else. */
  async #write(): Promise<void> {
    const lines = this.#waiting;
    this.#waiting = [];
    if (this.#dropped > 0) {
      lines.push(`${new Date().toISOString()} (${this.#dropped} lines were dropped here)\n`);
      this.#dropped = 0;
    }
    if (lines.length === 0) return;
    try {
      const size = await Deno.stat(this.#path).then((info) => info.size, () => 0);
      if (size > FILE_BYTES) await Deno.rename(this.#path, `${this.#path}.1`);
      await Deno.writeTextFile(this.#path, lines.join(""), { append: true, mode: 0o600 });
    } catch {
      // Told nowhere: the log of the log would be in the same place.
    }
  }
}

function ignoreAbsent(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "";
  throw error;
}
