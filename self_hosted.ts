/**
 * The app as it runs on a machine of one's own: served, this machine's toolbox beside it, its upkeep behind
 * it. main.ts loads this while the database opens.
 */
import { setTimeout as delay } from "node:timers/promises";
import { createApp } from "./app.ts";
import type { Config } from "./config.ts";
import type { OpenDatabase } from "./database.ts";
import { dial } from "./dtma/dial.ts";
import { ensureEngine } from "./engine.ts";
import { offerEnrolment } from "./local_enrolment.ts";
import { startLocalToolbox } from "./local_toolbox.ts";
import { links as openLinks } from "./mcp/links.ts";
import { giveMemoryBackAtRest } from "./memory_at_rest.ts";
import { BodyKeeper } from "./models/call_bodies.ts";
import { CallRecorder } from "./models/calls.ts";
import { putBuiltinCatalog } from "./models/catalog_entries.ts";
import { syncDueSources } from "./models/catalog_sync.ts";
import { Changes } from "./models/changes.ts";
import type { Identity } from "./models/identity.ts";
import { localIdentity } from "./models/local_identity.ts";
import type { Database } from "./models/db.ts";
import { errorFields, type Log } from "./models/log.ts";
import { openModelReach } from "./models/model_reach.ts";
import { openOutside, type Outside } from "./models/outside.ts";
import { removeExpired } from "./models/retention.ts";
import type { derivedSecrets, SecretsKey } from "./models/secrets.ts";
import { putLocalToolbox } from "./models/toolboxes.ts";
import { orStartError } from "./port.ts";
import builtinCatalog from "./models/catalog_builtin.json" with { type: "json" };

/** What this build calls itself. */
const VERSION = "0.1.0";

/**
 * How long the steps of a stop are waited for: a database that answers no more holds up for ever what it is asked.
 * Together they are less than the 30 s after which Docker ends the app (compose.yaml).
 */
const END_MS = 15_000;
/** Of that, what calls under way have for their answers. */
const ANSWER_MS = 7_000;
/** What those have that began while the last of the others were waited for. */
const CUT_MS = 1_000;
const RECORD_MS = 5_000;
const CLOSE_MS = 8_000;

/** The first pages are served before what they do not need is fetched. */
const FIRST_PAGE_MS = 5_000;

/**
 * Serves the app until it is told to stop.
 *
 * @param unlock lets go of the data directory, at the end
 */
export async function runSelfHosted({ config, log, database, keys, install, unlock }: {
  config: Config;
  log: Log;
  database: OpenDatabase;
  keys: Awaited<ReturnType<typeof derivedSecrets>> & { secretsKey: SecretsKey };
  install: boolean;
  unlock: () => void;
}): Promise<void> {
  const { secretsKey, appSigningKey, authSecret } = keys;
  const { db } = database;
  await putBuiltinCatalog(db, builtinCatalog);

  // Not before it is needed: it takes a tenth of a second of each start.
  const sendMail = config.mail && (await import("./mailer.ts")).openMailer(config.mail);
  const { baseUrl } = config;
  const outside = openOutside({
    privateHosts: config.oauthPrivateHosts,
    isProxied: config.isProxied,
  });
  const identity = localIdentity(db, { secret: authSecret, baseUrl, sendMail, log, outside });
  // The first account becomes the owner of the workspace that is there.
  await putLocalToolbox(db, { enrol: false });
  const setup = await firstRun(identity, config.owner);
  const changes = new Changes(db);
  const calls = new CallRecorder(db, log, new BodyKeeper(db, secretsKey));
  const { replicaAddress } = config;
  const links = openLinks({ db, changes, appSigningKey, log, dial, replicaAddress });
  const models = openModelReach({
    privateHosts: config.modelPrivateHosts,
    isProxied: config.isProxied,
  });
  const app = await createApp({
    db,
    identity,
    setup,
    secretsKey,
    outside,
    models,
    appSigningKey,
    changes,
    links,
    calls,
    log,
    sendMail,
    baseUrl,
    version: VERSION,
    isMigrated: database.isMigrated,
  });

  const stopping = new AbortController();
  const server = serve(config, app.fetch);
  // On an address of its own the app still listens on the loopback, for the local toolbox.
  const own = ["127.0.0.1", "0.0.0.0", "::"].includes(server.addr.hostname)
    ? server
    : serve({ host: "127.0.0.1", port: 0 }, app.fetch);

  const toolbox = config.localToolbox && await startLocalToolbox({
    db,
    appUrl: `http://127.0.0.1:${own.addr.port}`,
    dataDirectory: config.dataDirectory,
    prepareEngine: () =>
      ensureEngine({
        install,
        log: (line) => log.info(line),
        logDirectory: config.dataDirectory,
      }),
    log,
  });

  const offering = config.localToolboxTokenFile &&
    offerEnrolment({ db, file: config.localToolboxTokenFile, log }, stopping.signal);

  const syncing = syncSources({ db, changes, outside, log }, stopping.signal);
  const removing = removeOld({ ...database, log }, stopping.signal);
  fetchTheRest(log, stopping.signal);
  giveMemoryBackAtRest((name) => toolbox && toolbox.signal(name), stopping.signal);

  let signals = 0;
  const stop = async () => {
    // One Ctrl-C comes twice: the terminal sends it to all of the process group, and `deno task`, which is
    // in it, passes it on when it has its turn. With the third somebody does not wait.
    if (++signals > 2) Deno.exit(130);
    if (signals > 1) return;
    log.info("Stopping; containers keep running");
    stopping.abort();
    // One Ctrl-C ends its DTMA too, while the app waits for its own calls.
    if (toolbox) toolbox.willStop();
    await within(END_MS, endWork);
    await within(RECORD_MS, async () => {
      await calls.flush();
      await changes.close();
    });
    await within(CLOSE_MS, () => database.close());
    unlock();
    Deno.exit(0);
  };
  const endWork = async () => {
    const until = Date.now() + ANSWER_MS;
    // First, for a server that takes no more closes its WebSockets at once, with the calls on them (Deno 2.9).
    await links.endTunnels(ANSWER_MS);
    // Takes no more; streams and polls that are open stay until the process ends.
    const served = Promise.allSettled(
      [...new Set([server, own])].map((each) => each.shutdown()),
    );
    await links.close(Math.max(until - Date.now(), CUT_MS));
    if (toolbox) await toolbox.stop();
    await offering;
    // A download under way is not waited for: its source's lease ends, and another start goes on with it.
    await removing;
    await Promise.race([syncing, new Promise((resolve) => setTimeout(resolve, 2000))]);
    // The last answers are on their way.
    await Promise.race([served, delay(100)]);
  };
  const within = async (ms: number, work: () => Promise<void>) => {
    const late = delay(ms).then(() => {
      throw new Error(`It took more than ${ms / 1000} seconds`);
    });
    await Promise.race([work(), late]).catch((error) =>
      log.warn("Not all could be ended in order", errorFields(error))
    );
  };
  Deno.addSignalListener("SIGINT", stop);
  Deno.addSignalListener("SIGTERM", stop);
  // Last: who reads this may stop it at once, and it must end in order then.
  announce(config.baseUrl, setup?.code ?? null);
}

/**
 * Fetches what is loaded when it is first used, the chat's packages above all, behind the first page: so it is
 * there though the machine goes offline later, as one with a model of its own may. By another process, since
 * to import it here would keep 30 MB of it in memory.
 */
async function fetchTheRest(log: Log, signal: AbortSignal) {
  // A bundle holds all of it.
  if (!import.meta.url.endsWith(".ts")) return;
  await delay(FIRST_PAGE_MS, undefined, { signal }).catch(() => {});
  if (signal.aborted) return;
  try {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "cache",
        "--quiet",
        "--frozen",
        `--lock=${import.meta.dirname}/app.lock`,
        import.meta.url,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      signal,
    }).output();
    if (!success && !signal.aborted) throw new Error(new TextDecoder().decode(stderr).trim());
  } catch (error) {
    log.warn(
      "What is used later, such as the chat, cannot be fetched from npm yet",
      errorFields(error),
    );
  }
}

/** Works off catalog sources as they become due: at once when somebody asks, else within a minute. */
async function syncSources(
  { changes, ...deps }: { db: Database; changes: Changes; outside: Outside; log: Log },
  signal: AbortSignal,
) {
  const wakeUps = changes.subscribe((change) => change.table === "catalog_sources");
  while (!signal.aborted) {
    try {
      await syncDueSources(deps, { signal });
    } catch (error) {
      deps.log.error("Catalog sources could not be synced", errorFields(error));
    }
    await wakeUps.next(60_000, signal);
  }
  wakeUps.close();
}

/** Removes what is kept no longer; the database says when that is due, and whose turn it is. */
async function removeOld(
  { db, tidy, log }: Pick<OpenDatabase, "db" | "tidy"> & { log: Log },
  signal: AbortSignal,
) {
  for (let minute = 1; !signal.aborted; minute++) {
    try {
      const removed = await removeExpired({ db }, { signal });
      if (removed > 0) log.info("Removed what is kept no longer", { rows: removed });
      if (removed > 0 || minute % 10 === 0) await tidy?.();
    } catch (error) {
      log.error("What is kept no longer could not be removed", errorFields(error));
    }
    await delay(60_000, undefined, { signal }).catch(() => {});
  }
}

/**
 * What the set-up page needs until the first account exists: a one-time code, so that only who
 * reads this console can make it. With an owner given by environment the account is made here.
 */
async function firstRun(identity: Identity, owner: { email: string; password: string } | null) {
  if (await identity.hasAccounts()) return null;
  if (owner) {
    await identity.createAccount(owner.email, owner.email.split("@")[0], owner.password);
    return null;
  }
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  // 32 letters and digits without 0, 1, i and o, which people confuse: 40 bits.
  const code = Array.from(bytes, (byte) => "23456789abcdefghjklmnpqrstuvwxyz"[byte % 32]).join("");
  return {
    code: `${code.slice(0, 4)}-${code.slice(4)}`,
    check: (typed: string) => sameText(typed.trim().toLowerCase().replaceAll("-", ""), code),
  };
}

/** Compares in constant time for equal lengths. */
function sameText(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}

function serve(
  at: { host: string; port: number },
  handler: (request: Request, env: { clientIp: string }) => Response | Promise<Response>,
) {
  return orStartError(at, () =>
    Deno.serve(
      { hostname: at.host, port: at.port, onListen: () => {} },
      (request, info) => handler(request, { clientIp: info.remoteAddr.hostname }),
    ));
}

function announce(url: URL, code: string | null) {
  console.log(
    code
      ? `Mooring is ready: open ${url} and set it up with the code ${code}`
      : `Mooring is ready: ${url}`,
  );
}
