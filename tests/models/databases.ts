/** A migrated database for each test file: the embedded one and, where its programs are, a Postgres server. */
import { openEmbedded } from "../../models/embedded.ts";
import { connect, connectAsOwner, type Database } from "../../models/db.ts";
import type { AppSql } from "../../models/db_pool.ts";
import { migrate } from "../../models/migrations.ts";
import { localIdentity } from "../../models/local_identity.ts";
import { putBuiltinCatalog } from "../../models/catalog_entries.ts";
import { putLocalToolbox } from "../../models/toolboxes.ts";
import { secretsKeyFrom } from "../../models/secrets.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { readMigrations } from "../../database.ts";
import type postgres from "postgres";
import { freePort } from "../free_port.ts";

export interface TestDatabase {
  db: Database;
  /** A superuser's connection to the same database, for what no role of the app may do. */
  owner: postgres.Sql;
  /** Where other processes reach it: of a server, as a user that the app may migrate it with. */
  url?: string;
  close(): Promise<void>;
}

export interface Kind {
  name: string;
  open: () => Promise<TestDatabase>;
}

const hosted = Deno.readTextFileSync(new URL("hosted_supabase.sql", import.meta.url));
const compat = Deno.readTextFileSync(new URL("../../models/supabase_compat.sql", import.meta.url));

async function openTestEmbedded(): Promise<TestDatabase> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-test-" });
  const embedded = await openEmbedded(null, directory);
  const migrator = connectAsOwner(embedded);
  await migrate(migrator, await readMigrations(), compat);
  await migrator.end();
  await embedded.becomeApp();
  const db = connect(embedded);
  // PGlite's one session is mooring_app's from here on; its bootstrap user stays in reach.
  return {
    db,
    owner: asOwner(db.asApp),
    async close() {
      await db.close();
      await embedded.close();
      await Deno.remove(directory, { recursive: true });
    },
  };
}

/** The one session of the embedded database, as its superuser for the length of a transaction. */
function asOwner(sql: AppSql): postgres.Sql {
  const run = (strings: TemplateStringsArray, ...values: never[]) =>
    sql.begin(async (transaction) => {
      await transaction`set local session authorization postgres`;
      return await transaction(strings, ...values);
    });
  return run as unknown as postgres.Sql;
}

const binaries = findBinaries();

/** Both kinds; where Postgres's programs are missing the server half is skipped aloud. */
export const KINDS: (Kind & { ignore: boolean })[] = [
  { name: "embedded", open: openTestEmbedded, ignore: false },
  { name: "server", open: openTestServer, ignore: binaries === null },
];
/** A stand-in for a Supabase project: for what its grants and roles may break (hosted_supabase.sql). */
export const SUPABASE: Kind & { ignore: boolean } = {
  name: "Supabase-like",
  open: openTestSupabase,
  ignore: binaries === null,
};
if (!binaries) {
  console.log("skipped: tests on a Postgres server, since /usr/lib/postgresql/*/bin is missing");
}

let cluster: Promise<number> | null = null;
let supabaseCluster: Promise<number> | null = null;
let databases = 0;

async function openTestServer(): Promise<TestDatabase> {
  cluster ??= startCluster(binaries!);
  const port = await cluster;
  const name = `mooring_${++databases}`;
  const url = (database: string) => `postgres://postgres@127.0.0.1:${port}/${database}`;
  const admin = connectAsOwner({ url: url("postgres") });
  await admin.unsafe(`create database ${name}`);
  await admin.end();
  const owner = connectAsOwner({ url: url(name) });
  await migrate(owner, await readMigrations(), compat);
  const db = connect({ url: url(name), max: 8 });
  return {
    db,
    owner,
    url: url(name),
    async close() {
      await db.close();
      await owner.end();
    },
  };
}

/**
 * As a project is set up: migrations run as its `postgres`, which is no superuser there, and the app
 * signs in as `mooring_app`, as it must behind the transaction pooler.
 */
async function openTestSupabase(): Promise<TestDatabase> {
  supabaseCluster ??= startCluster(binaries!, "supabase_admin");
  const port = await supabaseCluster;
  const name = `project_${++databases}`;
  const url = (user: string, database = name) => `postgres://${user}@127.0.0.1:${port}/${database}`;
  const admin = connectAsOwner({ url: url("supabase_admin", "postgres") });
  await admin.unsafe(`create database ${name}`);
  await admin.end();
  const owner = connectAsOwner({ url: url("supabase_admin") });
  await owner.unsafe(hosted).simple();
  const migrator = connectAsOwner({ url: url("postgres") });
  await migrate(migrator, await readMigrations(), compat);
  await migrator`alter role mooring_app login`;
  await migrator.end();
  const db = connect({ url: url("mooring_app"), pooled: true, max: 8 });
  return {
    db,
    owner,
    url: url("mooring_app"),
    async close() {
      await db.close();
      await owner.end();
    },
  };
}

/** Starts a Postgres server for this process; returns its port on the loopback address. */
async function startCluster(bin: string, superuser = "postgres"): Promise<number> {
  const port = freePort();
  const directory = await Deno.makeTempDir({ prefix: "mooring-pg-" });
  const asUser = Deno.uid() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
  if (asUser.length) await run("chown", "postgres", directory);
  await run(
    ...asUser,
    `${bin}/initdb`,
    "-D",
    `${directory}/data`,
    "-U",
    superuser,
    "-A",
    "trust",
    "-N",
  );
  await run(
    ...asUser,
    `${bin}/pg_ctl`,
    "-D",
    `${directory}/data`,
    "-w",
    "-l",
    `${directory}/log`,
    "-o",
    `-k ${directory} -h 127.0.0.1 -p ${port} -c fsync=off`,
    "start",
  );
  const stop = () => {
    new Deno.Command(asUser[0] ?? `${bin}/pg_ctl`, {
      args: [
        ...asUser.slice(1),
        ...(asUser.length ? [`${bin}/pg_ctl`] : []),
        "-D",
        `${directory}/data`,
        "-m",
        "immediate",
        "stop",
      ],
      stdout: "null",
    }).outputSync();
    Deno.removeSync(directory, { recursive: true });
  };
  globalThis.addEventListener("unload", stop);
  return port;
}

async function run(...words: string[]) {
  const { success, stderr } = await new Deno.Command(words[0], {
    args: words.slice(1),
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`${words.join(" ")} failed: ${new TextDecoder().decode(stderr)}`);
}

function findBinaries(): string | null {
  try {
    const versions = [...Deno.readDirSync("/usr/lib/postgresql")].map((entry) => entry.name);
    versions.sort((a, b) => Number(b) - Number(a));
    return versions.length ? `/usr/lib/postgresql/${versions[0]}/bin` : null;
  } catch {
    return null;
  }
}

/** A secrets key for tests. */
export const testKey = await secretsKeyFrom(`test:${btoa("0123456789abcdef0123456789abcdef")}`);

/** The world most tests start from: the first workspace with its owner, toolbox and catalog. */
export async function openWorld(kind: Kind) {
  const database = await kind.open();
  const { db } = database;
  const { workspaceId, toolboxId, enrolmentToken } = await putLocalToolbox(db, { enrol: true });
  await putBuiltinCatalog(db, builtin);
  const identity = localIdentity(db, {
    secret: "a secret for tests, long enough",
    baseUrl: new URL("http://127.0.0.1:4680"),
  });
  const user = await makeUser(database, "ann@example.com", true);
  return { ...database, workspaceId, toolboxId, enrolmentToken: enrolmentToken!, identity, user };
}

/** Adds an account; `first` makes it the owner of the first workspace. */
export async function makeUser(
  { db, owner }: Pick<TestDatabase, "db" | "owner">,
  email: string,
  first = false,
): Promise<{ userId: string }> {
  const userId = crypto.randomUUID();
  const [{ isLocal }] = await owner`select to_regclass('auth.accounts') is not null as "isLocal"`;
  const [name] = email.split("@");
  if (isLocal) {
    await owner`insert into auth.users (id, name, email) values (${userId}, ${name}, ${email})`;
  } else await owner`insert into auth.users (id, email) values (${userId}, ${email})`;
  if (first) {
    await db.asApp`select mooring.put_profile(${userId}, ${email}, ${name})`;
  }
  return { userId };
}

/** Makes a person a member of a workspace. */
export async function addMember(
  { owner }: Pick<TestDatabase, "owner">,
  workspaceId: string,
  userId: string,
  role: string,
): Promise<void> {
  await owner`insert into public.members (workspace_id, user_id, role) values (${workspaceId}, ${userId}, ${role})`;
}
