/** A process that is kept running, as an init would, and that the nemesis may end or freeze. */
import type { History } from "./history.ts";
import { sleep } from "./waiting.ts";

export interface DaemonOptions {
  name: string;
  command: string[];
  environment?: Record<string, string>;
  /** Where both of its streams go. */
  logFile: string;
  history: History;
}

const RESTART_MS = 400;

export class Daemon {
  readonly #options: DaemonOptions;
  #process: Deno.ChildProcess | null = null;
  #ended = false;
  /** Down until it is resolved. */
  #held: PromiseWithResolvers<void> | null = null;
  readonly #supervision: Promise<void>;
  starts = 0;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#supervision = this.#supervise();
  }

  get name(): string {
    return this.#options.name;
  }

  get isRunning(): boolean {
    return this.#process !== null;
  }

  /** `kill -9`, and down until {@link release}. */
  kill(): void {
    this.#held ??= Promise.withResolvers();
    this.#signal("SIGKILL");
  }

  /**
   * Asked to end, as by a service manager at an upgrade; started again when it has.
   * @returns what waits for its end, so long and no longer
   */
  restart(): (timeoutMs: number) => Promise<void> {
    const ending = this.#process;
    this.#signal("SIGTERM");
    return async (timeoutMs) => {
      await Promise.race([ending?.status, sleep(timeoutMs)]);
      if (ending && this.#process === ending) {
        throw new Error(`${this.name} did not end within ${timeoutMs} ms of SIGTERM`);
      }
    };
  }

  /** It may be started again. */
  release(): void {
    this.#held?.resolve();
    this.#held = null;
  }

  pause(): void {
    this.#signal("SIGSTOP");
  }

  resume(): void {
    this.#signal("SIGCONT");
  }

  /** Ends it for good: asked first, killed after a while. */
  async end(): Promise<void> {
    this.#ended = true;
    this.release();
    this.resume();
    this.#signal("SIGTERM");
    const killer = setTimeout(() => this.#signal("SIGKILL"), 8000);
    await this.#supervision;
    clearTimeout(killer);
  }

  async #supervise(): Promise<void> {
    const { name, command, environment, logFile, history } = this.#options;
    while (!this.#ended) {
      await this.#held?.promise;
      if (this.#ended) return;
      this.starts++;
      this.#process = new Deno.Command("sh", {
        // exec: the pid is the daemon's own.
        args: ["-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", logFile, ...command],
        env: environment,
        stdin: "null",
      }).spawn();
      const { pid } = this.#process;
      history.add("start", { name, pid });
      const { code, signal } = await this.#process.status;
      this.#process = null;
      history.add("exit", { name, pid, code, signal });
      if (!this.#ended) await sleep(RESTART_MS);
    }
  }

  #signal(signal: Deno.Signal): void {
    try {
      this.#process?.kill(signal);
    } catch {
      // It ended just now.
    }
  }
}
