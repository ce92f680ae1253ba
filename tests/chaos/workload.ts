/** What people and agents do all the while, and what they were told: the intents to hold Mooring to. */
import { call, type CallOutcome } from "./client.ts";
import type { History } from "./history.ts";
import type { Observer } from "./observer.ts";
import type { Random } from "./random.ts";
import type { System } from "./system.ts";
import { sleep } from "./waiting.ts";

/** Entries of the harness's own, all of the server that counts its calls, by what a toolbox must do for it. */
const ENTRIES = {
  "counts": {},
  "counts-networked": { network: { hosts: ["example.com:443"] } },
  "counts-kept": { volumes: [{ name: "data", path: "/data" }] },
  "counts-apart": { instances: "agent" },
  "counts-built": {},
};
type Kind = keyof typeof ENTRIES;

/** What is deployed while it is worked: each as often as it stands here. */
const DEPLOYED: Kind[] = [
  ...["counts", "counts", "counts"],
  ...["counts-networked", "counts-networked", "counts-networked"],
  ...["counts-kept", "counts-kept", "counts-apart", "counts-built"],
] as Kind[];

/** One on each toolbox that nobody changes. */
const BYSTANDERS: Kind[] = ["counts", "counts-networked", "counts-apart"];

/** Whose calls go to two instances of a server that has one for each agent. */
const AGENTS = 2;

const CALLERS = 3;
/** Beside the bystanders. */
const MOST_SERVERS = 4;

/** A server as its person wants it. */
export interface Wanted {
  id: string;
  slug: string;
  kind: Kind;
  running: boolean;
  removed: boolean;
  /** What its environment says: another one with each configuration. */
  mark: string;
  /** An operation's end was not learned: what the database holds is as good as what is here. */
  isUncertain: boolean;
  /** One of these was its removal: no other takes it away. */
  mayBeRemoved: boolean;
  /** An operation is under way: one person, one at a time. */
  isBusy: boolean;
  isCallable: boolean;
  /** Nobody changes it, only calls it: it must be in the same container at the end as at the start. */
  isBystander: boolean;
  /** Seldom called, so that it goes to sleep. */
  isSleeper: boolean;
  /** Of its removal: its volume goes too. */
  deletesVolume: boolean;
  /** At the end, after its removal. */
  isVolumeFound?: boolean;
  /** In which round it was last touched. */
  touchedIn: number;
}

export interface MadeCall {
  token: string;
  serverId: string;
  sentMs: number;
  endedMs: number;
  outcome: CallOutcome;
}

export class Workload {
  readonly servers = new Map<string, Wanted>();
  readonly calls: MadeCall[] = [];
  /** Deploys of which no answer came, by idempotency key. */
  readonly #lost = new Map<string, Made>();
  readonly #random: Random;
  readonly #callRandom: Random;
  readonly #agents: { id: string; bearer: string }[] = [];
  #count = 0;
  #mark = 0;
  round = 0;
  /** Operations by kind and end. */
  readonly tally = new Map<string, number>();

  constructor(
    readonly system: System,
    readonly observer: Observer,
    readonly history: History,
  ) {
    this.#random = system.random.fork("operations");
    this.#callRandom = system.random.fork("calls");
  }

  /** Entries, agents with a token each, and the first servers. */
  async begin(): Promise<void> {
    const { sql, person, urls, toolboxes } = this.system;
    for (const [slug, special] of Object.entries(ENTRIES)) {
      const entry = {
        slug,
        title: slug,
        summary: "Counts its calls",
        description: "",
        category: "tests",
        homepage: "https://example.com",
        license: "MIT",
        package: {
          registry: "npm",
          // An image of its own that is made and removed; for the others there is one all the time.
          name: slug === "counts-built" ? slug : "counts",
          version: "1.0.0",
          installScripts: false,
        },
        arguments: [],
        environment: [
          { name: "MARK", isRequired: true },
          ...(slug === "counts-kept" ? [{ name: "KEPT", value: "/data" }] : []),
        ],
        network: { hosts: [] },
        ...special,
      };
      await sql`
        insert into catalog_entries (id, source, slug, entry)
        values (${crypto.randomUUID()}, 'chaos', ${slug}, ${sql.json(entry)})`;
    }
    for (let index = 0; index < AGENTS; index++) {
      const name = `chaos-${index + 1}`;
      const agent = await person.post(urls[0], "/agents", { name });
      const answer = await person.post(urls[0], `${agent!.location}/tokens`, {
        name,
        expiresInDays: "30",
      });
      const bearer = /mag_[A-Za-z0-9_-]{43}/.exec(answer!.html)![0];
      this.#agents.push({ id: agent!.location.split("/").at(-1)!, bearer });
    }
    for (const [index, { id }] of toolboxes.entries()) await this.#deploy(BYSTANDERS[index], id);
    await this.#deploy("counts-kept");
    await this.#deploy("counts-networked");
    await this.#deploySleeper();
  }

  /** Works until `signal` is aborted, and then until what is under way has ended. */
  async run(signal: AbortSignal): Promise<void> {
    const under = new Set<Promise<void>>();
    const operate = async () => {
      while (!signal.aborted) {
        await sleep(this.#random.between(350, 1000));
        const operation: Promise<void> = this.#operate().finally(() => under.delete(operation));
        under.add(operation);
      }
    };
    const callers = Array.from({ length: CALLERS }, () => this.#keepCalling(signal));
    await Promise.all([operate(), ...callers]);
    await Promise.all(under);
  }

  /**
   * Presses what a person would: approves tools, connects, and runs again what was given up.
   * @returns whether there was something to press
   */
  async tend(): Promise<boolean> {
    const { sql, person } = this.system;
    const url = this.#random.pick(this.system.urls);
    const waiting = await sql<{ id: string; picks: string[] }[]>`
      select s.id, array_agg(t.hash || ' ' || t.name) as picks from servers s
      join tools t on t.server_id = s.id and t.present and t.approved_hash is distinct from t.hash
      where s.removed_at is null group by s.id`;
    for (const { id, picks } of waiting) {
      await person.post(url, `/servers/${id}/tools`, { act: "approve-all", waiting: picks });
    }
    const apart = await sql<{ id: string; agentId: string }[]>`
      select s.id, a.id as "agentId" from servers s cross join agents a where removed_at is null
        and not exists (select from connections c where c.server_id = s.id and c.agent_id = a.id)`;
    for (const { id, agentId } of apart) {
      await person.post(url, `/agents/${agentId}/connections`, { serverId: id });
    }
    const ready = await sql<{ server_id: string }[]>`
      select c.server_id from connections c join tools t using (server_id)
      where t.present and t.hash = t.approved_hash
      group by c.server_id having count(distinct c.agent_id) = ${AGENTS}`;
    for (const { server_id } of ready) {
      const server = this.servers.get(server_id);
      if (server) server.isCallable = true;
    }
    const givenUp = await sql<{ id: string }[]>`
      select s.id from servers s join observations o on o.server_id = s.id
      where s.running and s.removed_at is null and o.generation = s.generation
        and o.layers::text like '%crash_looping%'`;
    for (const { id } of givenUp) {
      const server = this.servers.get(id);
      if (server?.mark.startsWith("broken")) {
        await this.#reconfigure(server);
        continue;
      }
      this.#say("run again", await person.post(url, `/servers/${id}/run`, {}) ? "said" : "lost");
    }
    return waiting.length + apart.length + givenUp.length > 0;
  }

  /** Deploys whose end was not learned: as the database holds them. */
  async learnLostDeploys(): Promise<void> {
    const { sql } = this.system;
    for (const [key, made] of this.#lost) {
      const [row] = await sql`select id from servers where idempotency_key = ${key}`;
      // What is not there may be on its way still, in a replica that stands still.
      if (!row) continue;
      this.#lost.delete(key);
      if (!this.servers.has(row.id)) this.#deployed(row.id, made);
    }
  }

  /** Calls to see whether a server answers, by a replica: of each agent that has its own instance. */
  async probe(server: Wanted, url: string): Promise<CallOutcome> {
    const callers = server.kind === "counts-apart" ? this.#agents : this.#agents.slice(0, 1);
    const outcomes = await Promise.all(
      callers.map(({ bearer }) => this.#call(server, { url, bearer, delayMs: 0, timeoutMs: 8000 })),
    );
    return outcomes.find(({ kind }) => kind !== "answered") ?? outcomes[0];
  }

  async #operate(): Promise<void> {
    const random = this.#random;
    const draw = random.next();
    const free = [...this.servers.values()].filter((each) =>
      !each.isBystander && !each.isSleeper && !each.isBusy && !each.removed
    );
    if (draw < 0.25 || free.length === 0) {
      if (free.length < MOST_SERVERS) await this.#deploy(random.pick(DEPLOYED));
      return;
    }
    const server = random.pick(free);
    server.isBusy = true;
    server.touchedIn = this.round;
    try {
      if (draw < 0.4) await this.#reconfigure(server);
      else if (draw < 0.46) await this.#break(server);
      else if (draw < 0.51) await this.#allowHost(server);
      else if (draw < 0.67) await this.#stop(server);
      else if (draw < 0.88) await this.#run(server);
      else await this.#remove(server);
    } finally {
      server.isBusy = false;
    }
  }

  /** @param bystanderOn the toolbox of a server that is then left alone; else any */
  async #deploy(kind: Kind, bystanderOn?: string): Promise<void> {
    const { system } = this;
    const random = this.#random;
    const name = `s${++this.#count}`;
    const mark = `m${++this.#mark}`;
    const key = random.uuid();
    const made: Made = { slug: name, mark, kind, isBystander: bystanderOn !== undefined };
    const form = {
      slug: kind,
      toolboxId: bystanderOn ?? random.pick(system.toolboxes).id,
      idempotencyKey: key,
      name,
      "env.MARK": mark,
    };
    // A double click, and a load balancer that sends its halves to two replicas.
    const urls = random.chance(0.5) ? [...system.urls, ...system.urls] : [random.pick(system.urls)];
    const answers = await Promise.all(
      urls.map((url) => system.person.post(url, "/servers", form)),
    );
    const ids = new Set(
      answers.flatMap((answer) =>
        answer?.status === 303 ? [answer.location.split("/").at(-1)!] : []
      ),
    );
    this.history.add("deploy", { name, key, clicks: urls.length, ids: [...ids] });
    if (ids.size > 1) {
      this.observer.violate("one server of one form", `${key} became ${[...ids].join(" and ")}`);
    }
    for (const answer of answers) {
      if (answer && answer.status !== 303) {
        this.observer.violate("a form is taken", `Deploying answered ${answer.status}`);
      }
    }
    this.#say("deploy", ids.size > 0 ? "acknowledged" : "lost");
    if (ids.size > 0) this.#deployed([...ids][0], made);
    else this.#lost.set(key, made);
  }

  /** One that goes to sleep when it was not called for half a minute, the least that the app takes. */
  async #deploySleeper(): Promise<void> {
    await this.#deploy("counts");
    const server = [...this.servers.values()].at(-1)!;
    server.isSleeper = true;
    await this.#post(server, "configuration", {
      baseGeneration: "1",
      "env.MARK": server.mark,
      "option.idleStopMinutes": "0.5",
    });
  }

  #deployed(id: string, made: Made): void {
    this.servers.set(id, {
      ...made,
      id,
      running: true,
      removed: false,
      isSleeper: false,
      deletesVolume: this.#random.chance(0.5),
      isUncertain: false,
      mayBeRemoved: false,
      isBusy: false,
      isCallable: false,
      touchedIn: this.round,
    });
  }

  async #reconfigure(server: Wanted, mark = `m${++this.#mark}`): Promise<void> {
    const { sql } = this.system;
    this.#stirs(server);
    const row = await sql`select generation from servers where id = ${server.id}`.catch(() => []);
    if (row.length === 0) return;
    const form = { baseGeneration: String(row[0].generation), "env.MARK": mark };
    const isTaken = await this.#post(server, "configuration", form);
    if (isTaken) Object.assign(server, { mark, running: true });
  }

  /**
   * A change that cannot come up: the one before is to go on, and its settings to come back. Seldom
   * where the one before has to end first: then it takes a whole crash loop, half a minute.
   */
  async #break(server: Wanted): Promise<void> {
    const isTried = server.running && server.isCallable &&
      (server.kind !== "counts-kept" || this.#random.chance(0.03));
    await this.#reconfigure(server, isTried ? `broken${++this.#mark}` : undefined);
  }

  /** Changes what it may reach and nothing else: whether it runs stays as it is. */
  async #allowHost(server: Wanted): Promise<void> {
    await this.#post(server, "hosts", { host: `h${++this.#mark}.example.com:443` });
  }

  async #stop(server: Wanted): Promise<void> {
    if (await this.#post(server, "stop")) server.running = false;
  }

  async #run(server: Wanted): Promise<void> {
    this.#stirs(server);
    if (await this.#post(server, "run")) server.running = true;
  }

  async #remove(server: Wanted): Promise<void> {
    if (await this.#post(server, "remove", { deleteVolumes: String(server.deletesVolume) })) {
      Object.assign(server, { removed: true, running: false });
    }
  }

  /** Removes what is there, for the end: asked again until it is taken. */
  async removeAll(): Promise<void> {
    this.round++;
    for (const server of this.servers.values()) {
      for (let attempt = 0; attempt < 5 && !server.removed; attempt++) await this.#remove(server);
    }
  }

  /** It may start from here on. */
  #stirs(server: Wanted): void {
    this.observer.judge.atRest.delete(server.id);
  }

  /** @returns whether it was taken; when that is not known the server is uncertain from here on */
  async #post(
    server: Wanted,
    verb: string,
    form: Record<string, string> = {},
  ): Promise<boolean> {
    const random = this.#random;
    const urls = random.chance(0.3) && !["configuration", "hosts"].includes(verb)
      ? this.system.urls
      : [random.pick(this.system.urls)];
    const path = `/servers/${server.id}/${verb}`;
    const answers = await Promise.all(
      urls.map((url) => this.system.person.post(url, path, form)),
    );
    const isTaken = answers.some((answer) => answer?.status === 303);
    const isLost = answers.includes(null);
    if (isLost) {
      server.isUncertain = true;
      server.mayBeRemoved ||= verb === "remove";
    }
    const end = isTaken ? "acknowledged" : isLost ? "lost" : "refused";
    this.#say(verb, end);
    const statuses = answers.map((answer) => answer?.status ?? null);
    this.history.add(verb, { server: server.id, slug: server.slug, end, statuses, ...form });
    return isTaken;
  }

  async #keepCalling(signal: AbortSignal): Promise<void> {
    const random = this.#callRandom;
    while (!signal.aborted) {
      await sleep(random.between(30, 250));
      // Seldom one that is gone: it must not run either, and takes the time of those that do.
      const callable = [...this.servers.values()].filter((each) =>
        each.isCallable && (!(each.removed || each.isSleeper) || random.chance(0.02))
      );
      if (callable.length === 0) continue;
      await this.#call(random.pick(callable), {
        url: random.pick(this.system.urls),
        bearer: random.pick(this.#agents).bearer,
        delayMs: random.chance(0.2) ? random.between(200, 1500) : 0,
        timeoutMs: random.chance(0.1) ? random.between(50, 400) : 10_000,
      });
    }
  }

  async #call(
    server: Wanted,
    { url, ...options }: { url: string; bearer: string; delayMs: number; timeoutMs: number },
  ): Promise<CallOutcome> {
    const token = `${server.slug}-${crypto.randomUUID()}`;
    const { id: serverId, slug } = server;
    const sentMs = Date.now();
    const outcome = await call(url, { ...options, slug, token });
    const endedMs = Date.now();
    this.calls.push({ token, serverId, sentMs, endedMs, outcome });
    this.#say("call", outcome.kind);
    const { kind: end, ...rest } = outcome;
    this.history.add("call", { token, url, tookMs: endedMs - sentMs, end, ...rest });
    return outcome;
  }

  #say(operation: string, end: string): void {
    const key = `${operation} ${end}`;
    this.tally.set(key, (this.tally.get(key) ?? 0) + 1);
  }
}

/** What a deploy asks for. */
type Made = Pick<Wanted, "slug" | "mark" | "kind" | "isBystander">;
