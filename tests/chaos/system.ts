/** The system under test: two replicas of the app on one Postgres, and toolboxes on engines of their own. */
import postgres from "postgres";
import { newToken, tokenHash } from "../../models/tokens.ts";
import { newSecretsKeyText } from "../../models/secrets.ts";
import { ENVIRONMENT } from "../../dtma/protocol.ts";
import { Balancer } from "./balancer.ts";
import { OWNER, Person } from "./client.ts";
import { Daemon } from "./daemon.ts";
import { Engine, saveBase } from "./engine.ts";
import type { History } from "./history.ts";
import { Link } from "./link.ts";
import { PostgresServer } from "./postgres.ts";
import type { Random } from "./random.ts";
import { freePort } from "../free_port.ts";
import { eventually, run } from "./waiting.ts";

/** The sources that are run; a mutant's are elsewhere. */
const ROOT = new URL("../..", import.meta.url).pathname;

export const REPLICAS = 2;
export const TOOLBOXES = 3;

/** The toolbox that dials the app, as from behind NAT; the others are dialled. */
const TUNNEL = 2;

/** Where Debian's package libfaketime puts it. */
const FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/** Enough for keys, state and lock files; small, so that it fills at once. */
const DATA_MIB = 2;

export interface Replica {
  daemon: Daemon;
  url: string;
  /** From the app to Postgres. */
  database: Link;
  /** See {@link Toolbox.clockFile}. */
  clockFile: string | null;
}

export interface Toolbox {
  index: number;
  id: string;
  engine: Engine;
  daemon: Daemon;
  /** From the DTMA to the app. */
  control: Link;
  balancer: Balancer;
  /** From the app to the DTMA; a tunnel's calls go over its control path. */
  data: Link;
  dataDirectory: string;
  /** What libfaketime adds to the process's clock is written here; null without libfaketime. */
  clockFile: string | null;
}

export class System {
  readonly stack = new AsyncDisposableStack();
  readonly person = new Person();
  replicas: Replica[] = [];
  toolboxes: Toolbox[] = [];
  postgres!: PostgresServer;
  /** As the superuser: what the harness believes is read past the app. */
  sql!: postgres.Sql;
  hasFaketime = false;

  private constructor(
    readonly folder: string,
    readonly random: Random,
    readonly history: History,
    readonly root: string,
  ) {
    this.hasFaketime = exists(FAKETIME);
  }

  /** @param root of the sources to run, with a slash at its end */
  static async start(
    random: Random,
    history: History,
    folder: string,
    root = ROOT,
  ): Promise<System> {
    const system = new System(folder, random, history, root);
    try {
      await system.#start();
    } catch (error) {
      await system[Symbol.asyncDispose]();
      throw error;
    }
    return system;
  }

  get urls(): string[] {
    return this.replicas.map(({ url }) => url);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }

  async isReady(url: string): Promise<boolean> {
    try {
      const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2000) });
      return (await answer.json()).checks.database;
    } catch {
      return false;
    }
  }

  async #start(): Promise<void> {
    const { folder, stack } = this;
    const archive = `${folder}/base.tar`;
    await saveBase(archive);
    const tag = crypto.randomUUID().slice(0, 6);
    const starting = Array.from({ length: TOOLBOXES }, async (_, index) => {
      const name = `mrc-${tag}-${index + 1}`;
      const engine = await Engine.start({
        folder: `${folder}/engine-${index + 1}`,
        name,
        archive,
        history: this.history,
      });
      stack.use(engine);
      return engine;
    });
    const app = this.#startApp();
    // Whatever fails, the others are waited for: who starts late would be left behind.
    await Promise.allSettled([...starting, app]);
    await app;
    const engines = await Promise.all(starting);
    await Deno.remove(archive);
    await this.#startToolboxes(engines);
    await this.person.signIn(this.urls[0]);
  }

  async #startApp(): Promise<void> {
    const { folder, stack } = this;
    this.postgres = stack.use(await PostgresServer.start(`${folder}/postgres`));
    this.sql = postgres(this.postgres.url, { max: 2, onnotice: () => {}, connect_timeout: 5 });
    stack.defer(() => this.sql.end({ timeout: 2 }));
    const secretsKey = newSecretsKeyText();
    for (let index = 0; index < REPLICAS; index++) {
      const port = freePort();
      const name = `app-${index + 1}`;
      const url = `http://127.0.0.1:${port}`;
      const database = this.stack.use(new Link(() => [this.postgres.port]));
      const clockFile = await this.#clockFile(name);
      const daemon = new Daemon({
        name,
        command: [
          Deno.execPath(),
          "run",
          "--quiet",
          "-A",
          "--no-check",
          `--lock=${this.root}app.lock`,
          `${this.root}main.ts`,
          "--no-install",
        ],
        environment: {
          ...OWNER,
          DATABASE_URL: this.postgres.urlAt(database.port),
          DATA_DIR: `${this.folder}/${name}`,
          SECRETS_KEY: secretsKey,
          LOCAL_TOOLBOX: "off",
          HOST: "127.0.0.1",
          PORT: String(port),
          BASE_URL: url,
          REPLICA_ADDRESS: url,
          LOG_FORMAT: "json",
          ...fakedClock(clockFile),
        },
        logFile: `${this.folder}/${name}.log`,
        history: this.history,
      });
      this.stack.defer(() => daemon.end());
      this.replicas.push({ daemon, url, database, clockFile });
      // The first alone: what follows is about faults, not about two first starts at once.
      if (index === 0) await eventually(`${name} is ready`, () => this.isReady(url), 60_000);
    }
    for (const { url, daemon } of this.replicas) {
      await eventually(`${daemon.name} is ready`, () => this.isReady(url), 60_000);
    }
  }

  async #startToolboxes(engines: Engine[]): Promise<void> {
    const { sql } = this;
    const [first] = await sql`select id, workspace_id from toolboxes where is_local`;
    for (const [index, engine] of engines.entries()) {
      const id = index === 0 ? first.id : this.random.uuid();
      const token = newToken("mte");
      // Local, or plain HTTP on the loopback address were refused. There is no page yet on which a
      // second toolbox gets its token.
      await sql`
        insert into toolboxes (id, workspace_id, name, is_local) values (${id}, ${first.workspace_id},
          ${`Toolbox ${index + 1}`}, true) on conflict (id) do nothing`;
      await sql`
        update toolboxes set enrolment_hash = ${await tokenHash(token)},
          enrolment_expires_at = now() + interval '15 minutes' where id = ${id}`;
      this.toolboxes.push(await this.#startToolbox(index, id, engine, token));
    }
    await eventually("all toolboxes are enrolled", async () => {
      const [{ count }] = await sql`
        select count(*)::int from toolboxes where public_key is not null`;
      return count === TOOLBOXES;
    });
  }

  async #startToolbox(index: number, id: string, engine: Engine, token: string): Promise<Toolbox> {
    const { stack, history } = this;
    const name = `dtma-${index + 1}`;
    const dataDirectory = `${this.folder}/${name}`;
    await Deno.mkdir(dataDirectory);
    await run("mount", "-t", "tmpfs", "-o", `size=${DATA_MIB}m`, "tmpfs", dataDirectory);
    stack.defer(async () => {
      await run("umount", "-l", dataDirectory);
    });
    const balancer = stack.use(
      new Balancer({
        replicas: () => this.urls,
        random: this.random.fork(`balancer ${index}`),
        history,
        name,
      }),
    );
    // The balancer of messages passes no WebSocket: a tunnel's toolbox has one of connections.
    const isTunnel = index === TUNNEL;
    const replicaPorts = () => this.urls.map((url) => Number(new URL(url).port));
    const control = stack.use(new Link(isTunnel ? replicaPorts : () => [balancer.port]));
    const port = freePort();
    const data = stack.use(new Link(() => [port]));
    const clockFile = await this.#clockFile(name);
    const daemon = new Daemon({
      name,
      command: [
        Deno.execPath(),
        "run",
        "--quiet",
        "--no-prompt",
        "--no-check",
        "--cached-only",
        `--allow-net=127.0.0.1,localhost,unix:${engine.socketPath}`,
        `--allow-read=${dataDirectory},${engine.socketPath}`,
        `--allow-write=${dataDirectory},${engine.socketPath}`,
        `--allow-env=${ENVIRONMENT.join(",")}`,
        `${this.root}dtma/main.ts`,
      ],
      environment: {
        MOORING_URL: control.url,
        MOORING_ENROLMENT_TOKEN: token,
        DTMA_DATA_DIR: dataDirectory,
        DTMA_LISTEN: `127.0.0.1:${port}`,
        ...(isTunnel ? { DTMA_REACH: "tunnel" } : { DTMA_ADDRESS: data.url }),
        DOCKER_HOST: engine.host,
        NODE_EXTRA_CA_CERTS: "",
        ...fakedClock(clockFile),
      },
      logFile: `${this.folder}/${name}.log`,
      history,
    });
    stack.defer(() => daemon.end());
    return { index, id, engine, daemon, control, balancer, data, dataDirectory, clockFile };
  }

  async #clockFile(name: string): Promise<string | null> {
    if (!this.hasFaketime) return null;
    const file = `${this.folder}/${name}.clock`;
    await Deno.writeTextFile(file, "+0");
    return file;
  }
}

function fakedClock(file: string | null): Record<string, string> {
  if (!file) return {};
  return {
    LD_PRELOAD: FAKETIME,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_CACHE_DURATION: "1",
    // A host whose clock is set has a monotonic clock that is not.
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    NO_FAKE_STAT: "1",
  };
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
