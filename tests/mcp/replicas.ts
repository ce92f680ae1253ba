/**
 * Two replicas of the app as processes of their own on one Postgres server, and a toolbox whose DTMA, engine
 * and server in its container are the real ones. Built through the pages, as a person does.
 */
import { dtmaPermissions } from "../../dtma/permissions.ts";
import { newSecretsKeyText } from "../../models/secrets.ts";
import { newToken, tokenHash } from "../../models/tokens.ts";
import { OWNER, Person } from "../chaos/client.ts";
import { Daemon } from "../chaos/daemon.ts";
import { History } from "../chaos/history.ts";
import { Link } from "../chaos/link.ts";
import { POSTGRES_PROGRAMS, PostgresServer } from "../chaos/postgres.ts";
import { eventually, run } from "../chaos/waiting.ts";
import { absent, BASE, withToolbox } from "../dtma/engine.ts";
import { freePort } from "../free_port.ts";
import postgres from "postgres";

const ROOT = new URL("../..", import.meta.url).pathname;
const FIXTURES = new URL("../fixtures/servers/", import.meta.url);

/** Why this cannot be had here; null when it can. */
export const obstacle: string | null = absent ??
  (POSTGRES_PROGRAMS ? null : "/usr/lib/postgresql/*/bin is missing");

export interface Replicas {
  replicas: { url: string; daemon: Daemon }[];
  /** Signed in. */
  person: Person;
  serverId: string;
  /** The server's tools, `hash name`, as the page's form carries them. */
  tools: string[];
  /** Of an agent that is connected to the server. */
  token: string;
  sql: postgres.Sql;
  /** Waits until a replica answers, and its database. */
  ready(replica: { url: string }): Promise<void>;
}

/**
 * Starts it all with one server deployed, approved and connected; ends it after `use`.
 *
 * @param fixture a script of tests/fixtures/servers, which is built from a source tree
 * @param slug the server's
 */
export async function withReplicas(
  { fixture, slug, reach = "direct" }: {
    fixture: string;
    slug: string;
    reach?: "direct" | "tunnel";
  },
  use: (system: Replicas) => Promise<void>,
): Promise<void> {
  await withToolbox(async ({ docker, id: toolboxId }) => {
    await using stack = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "mooring-replicas-" });
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    await Deno.chmod(folder, 0o711); // Postgres runs as another user
    const history = stack.use(new History(`${folder}/history.jsonl`));
    const database = stack.use(await PostgresServer.start(`${folder}/postgres`));
    const sql = postgres(database.url, { max: 2, onnotice: () => {} });
    stack.defer(() => sql.end({ timeout: 2 }));

    const secretsKey = newSecretsKeyText();
    const ready = ({ url }: { url: string }) =>
      eventually(`${url} is ready`, () => isReady(url), 120_000);
    const replicas: Replicas["replicas"] = [];
    for (const name of ["app-1", "app-2"]) {
      const port = freePort();
      const url = `http://127.0.0.1:${port}`;
      const daemon = new Daemon({
        name,
        command: denoRun("-A", `${ROOT}main.ts`, "--no-install"),
        environment: {
          ...OWNER,
          DATABASE_URL: database.url,
          DATA_DIR: `${folder}/${name}`,
          SECRETS_KEY: secretsKey,
          LOCAL_TOOLBOX: "off",
          HOST: "127.0.0.1",
          PORT: String(port),
          BASE_URL: url,
          REPLICA_ADDRESS: url,
        },
        logFile: `${folder}/${name}.log`,
        history,
      });
      stack.defer(() => daemon.end());
      replicas.push({ url, daemon });
      // One after the other: the first migrates.
      await ready(replicas.at(-1)!);
    }

    // As a person's command on a new toolbox enrols it, but for plain HTTP, which only a local one may have.
    const enrolment = newToken("mte");
    await sql`
      update toolboxes set id = ${toolboxId}, enrolment_hash = ${await tokenHash(enrolment)},
        enrolment_expires_at = now() + interval '15 minutes' where is_local`;
    const control = stack.use(new Link(() => replicas.map(({ url }) => Number(new URL(url).port))));
    const tree = await sourceTree(`${folder}/trees`, fixture);
    const environment = {
      MOORING_URL: control.url,
      MOORING_ENROLMENT_TOKEN: enrolment,
      DTMA_REACH: reach,
      DTMA_DATA_DIR: `${folder}/dtma`,
      DTMA_SOURCE_DIRECTORIES: `${folder}/trees`,
      DOCKER_HOST: `unix://${docker.socketPath}`,
      NODE_EXTRA_CA_CERTS: "",
    };
    await Deno.mkdir(environment.DTMA_DATA_DIR);
    const dtma = new Daemon({
      name: "dtma",
      command: denoRun(...dtmaPermissions(environment), `${ROOT}dtma/main.ts`),
      environment,
      logFile: `${folder}/dtma.log`,
      history,
    });
    stack.defer(() => dtma.end());

    const person = new Person();
    await person.signIn(replicas[0].url);
    const deployed = { person, url: replicas[0].url, sql, toolboxId, slug, tree };
    await use({ replicas, person, sql, ready, ...await deploy(deployed) });
  });
}

/** Deploys the source tree, approves what it lists and connects an agent to it. */
async function deploy(
  { person, url, sql, toolboxId, slug, tree }: {
    person: Person;
    url: string;
    sql: postgres.Sql;
    toolboxId: string;
    slug: string;
    tree: { location: string; revision: string };
  },
): Promise<Pick<Replicas, "serverId" | "tools" | "token">> {
  const entry = {
    slug,
    title: slug,
    summary: "A server of the tests",
    description: "",
    category: "tests",
    homepage: "https://example.com",
    license: "MIT",
    package: { registry: "source", kind: "folder", dockerfile: "Dockerfile", ...tree },
    arguments: [],
    environment: [],
    network: { hosts: [] },
  };
  await sql`
    insert into catalog_entries (id, source, slug, entry)
    values (${crypto.randomUUID()}, 'tests', ${slug}, ${sql.json(entry)})`;
  await eventually("the toolbox enrols", async () => {
    const rows =
      await sql`select from toolboxes where public_key is not null and facts is not null`;
    return rows.length > 0;
  }, 120_000);
  const to = async (path: string, form: Record<string, string | string[]>) => {
    const answer = await person.post(url, path, form);
    if (!answer || answer.status >= 400) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const idOf = ({ location }: { location: string }) => location.split("/").at(-1)!;
  const idempotencyKey = crypto.randomUUID();
  const serverId = idOf(
    await to("/servers", { slug, toolboxId, idempotencyKey, name: slug, "consent.build": "true" }),
  );
  let tools: string[] = [];
  await eventually("the server lists its tools", async () => {
    tools = (await sql`select hash, name from tools where server_id = ${serverId}`)
      .map(({ hash, name }) => `${hash} ${name}`);
    return tools.length > 0;
  }, 180_000);
  await to(`/servers/${serverId}/tools`, { act: "approve-all", waiting: tools });
  const agentId = idOf(await to("/agents", { name: "Agent" }));
  await to(`/agents/${agentId}/connections`, { serverId });
  const { html } = await to(`/agents/${agentId}/tokens`, { name: "t", expiresInDays: "30" });
  return { serverId, tools, token: /mag_[A-Za-z0-9_-]{43}/.exec(html)![0] };
}

/** A fixture as a git work tree with a Dockerfile. */
async function sourceTree(parent: string, fixture: string) {
  const location = `${parent}/${fixture}`;
  await Deno.mkdir(location, { recursive: true });
  for (const file of ["server.mjs", `${fixture}.mjs`]) {
    await Deno.copyFile(new URL(file, FIXTURES), `${location}/${file}`);
  }
  await Deno.writeTextFile(
    `${location}/Dockerfile`,
    `FROM ${BASE}\nCOPY *.mjs /srv/\nENTRYPOINT ["node","/srv/${fixture}.mjs"]\n`,
  );
  const git = (...args: string[]) =>
    run("git", "-C", location, "-c", "user.name=t", "-c", "user.email=t@example.com", ...args);
  await git("init", "--quiet");
  await git("add", "--all");
  await git("commit", "--quiet", "--message=first");
  return { location, revision: (await git("rev-parse", "HEAD")).trim() };
}

async function isReady(url: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5000) });
    return (await answer.json()).checks.database;
  } catch {
    return false;
  }
}

function denoRun(...args: string[]): string[] {
  return [Deno.execPath(), "run", "--quiet", "--no-check", `--lock=${ROOT}app.lock`, ...args];
}
