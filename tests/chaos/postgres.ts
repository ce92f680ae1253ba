/** A Postgres server of the harness's own, from Debian's programs, that may be made to crash. */
import { freePort } from "../free_port.ts";
import { run } from "./waiting.ts";

/** The newest installed version's programs, or null. */
export const POSTGRES_PROGRAMS: string | null = (() => {
  try {
    const versions = [...Deno.readDirSync("/usr/lib/postgresql")].map((entry) => entry.name);
    const newest = versions.toSorted((a, b) => Number(b) - Number(a))[0];
    return newest ? `/usr/lib/postgresql/${newest}/bin` : null;
  } catch {
    return null;
  }
})();

export class PostgresServer {
  private constructor(readonly directory: string, readonly port: number) {}

  get url(): string {
    return this.urlAt(this.port);
  }

  /** By way of something that listens at another port. */
  urlAt(port: number): string {
    return `postgres://postgres@127.0.0.1:${port}/postgres`;
  }

  static async start(directory: string): Promise<PostgresServer> {
    const server = new PostgresServer(directory, freePort());
    await Deno.mkdir(directory);
    if (Deno.uid() === 0) await run("chown", "postgres", directory);
    // fsync off: its processes crash here, the machine does not.
    await server.#program("initdb", "-U", "postgres", "-A", "trust", "-N");
    await server.#control("start");
    return server;
  }

  /** As after a crash: nobody is asked to finish, and what was committed is recovered. */
  async crashAndRecover(): Promise<void> {
    await this.#control("restart", "-m", "immediate");
  }

  /** Every process of it stands still, and nobody is told. */
  pause(): Promise<void> {
    return this.#signal("SIGSTOP");
  }

  resume(): Promise<void> {
    return this.#signal("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#control("stop", "-m", "immediate");
  }

  /** The postmaster first: one that stands still starts no more of them. */
  async #signal(signal: Deno.Signal): Promise<void> {
    const [postmaster] = (await Deno.readTextFile(`${this.directory}/data/postmaster.pid`))
      .split("\n");
    const children = `/proc/${postmaster}/task/${postmaster}/children`;
    Deno.kill(Number(postmaster), signal);
    for (const pid of (await Deno.readTextFile(children)).split(" ").filter(Boolean)) {
      try {
        Deno.kill(Number(pid), signal);
      } catch {
        // Its connection was closed just now.
      }
    }
  }

  #control(...args: string[]): Promise<void> {
    const settings = `-k ${this.directory} -h 127.0.0.1 -p ${this.port} -c fsync=off`;
    const log = `${this.directory}/log`;
    return this.#program("pg_ctl", "-w", "-t", "30", "-l", log, "-o", settings, ...args);
  }

  async #program(name: string, ...args: string[]): Promise<void> {
    const command = [`${POSTGRES_PROGRAMS}/${name}`, "-D", `${this.directory}/data`, ...args];
    // Postgres refuses to run as root.
    const words = Deno.uid() === 0 ? ["runuser", "-u", "postgres", "--", ...command] : command;
    // Not piped: the server would keep the pipe, and its end would be waited for.
    const { success } = await new Deno.Command(words[0], {
      args: words.slice(1),
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn().status;
    if (!success) throw new Error(`${name} ${args.join(" ")} failed, see ${this.directory}/log`);
  }
}
