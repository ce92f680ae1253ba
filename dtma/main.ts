/**
 * The daemon of a toolbox. Run it with no more permissions than these, where DATA is DTMA_DATA_DIR,
 * SOCKET the Docker socket's path, APP the app's host:port and LISTEN the host:port of DTMA_LISTEN:
 *
 * ```sh
 * deno run --no-prompt --cached-only \
 *   --allow-net=APP,LISTEN,localhost,unix:SOCKET \
 *   --allow-read=DATA,SOCKET --allow-write=DATA,SOCKET \
 *   --allow-env=MOORING_URL,MOORING_ENROLMENT_TOKEN,MOORING_ENROLMENT_TOKEN_FILE,DTMA_DATA_DIR,\
 * DTMA_LISTEN,DTMA_ADDRESS,DTMA_REACH,DTMA_PLAIN_HTTP,DTMA_CEILING,DTMA_SUBNETS,\
 * DTMA_PRIVATE_NETWORKS,DTMA_NPM_REGISTRY,DTMA_PYPI_INDEX,DTMA_NUGET_SOURCE,DTMA_SOURCE_DIRECTORIES,\
 * NODE_BASE_IMAGE,PYTHON_BASE_IMAGE,DOTNET_BASE_IMAGE,DOTNET_SDK_IMAGE,DTMA_BASE_IMAGES,\
 * DTMA_SCANNER,DTMA_PARENT,DTMA_RUN,DTMA_ROLLED_BACK,DOCKER_HOST,LOG_FORMAT,NODE_EXTRA_CA_CERTS \
 *   dtma/main.ts
 * ```
 *
 * `localhost` is the name by which the engine is spoken to over its socket. Where they are used, the
 * files of MOORING_ENROLMENT_TOKEN_FILE, DTMA_CEILING and NODE_EXTRA_CA_CERTS and the directories of
 * DTMA_SOURCE_DIRECTORIES need `--allow-read` too. It needs no other directory, and runs no
 * process but the one that DTMA_SCANNER names, if it does (`--allow-run` of that path alone): neither
 * `--allow-ffi` nor `--allow-sys`.
 *
 * It ends with code 1 for what a person must mend, 3 (EXIT_UNWANTED) when the app refuses this
 * toolbox or another DTMA with its key took its place, else 0; containers run on in every case.
 */
import { AppClient } from "./app_client.ts";
import { AppClock } from "./app_clock.ts";
import { Ceiling } from "./ceiling.ts";
import { type Config, readConfig } from "./config.ts";
import {
  DesiredPull,
  enrol,
  EnrolmentError,
  nextEpoch,
  OvertakenError,
  Reporter,
  RevokedError,
  type ToolboxKey,
} from "./control.ts";
import { DataDirectory, DataDirectoryError, type State } from "./data_directory.ts";
import { dataPath, linkServing } from "./data_path.ts";
import type { Desired } from "./desired.ts";
import { Docker } from "./docker.ts";
import { billOf } from "./image.ts";
import { hostFacts } from "./host_facts.ts";
import { KeyRotation } from "./key_rotation.ts";
import type { Link } from "./link.ts";
import { createLog, type Log } from "./log.ts";
import { ENVIRONMENT, EXIT_UNWANTED, type HostFacts } from "./protocol.ts";
import { Reconciler } from "./reconcile.ts";
import { sampleContainers } from "./sampler.ts";
import { Sandboxes } from "./sandboxes.ts";
import { Scanner } from "./scanner.ts";
import { Scanning } from "./scanning.ts";
import { openSession } from "./session.ts";
import { Takeover } from "./takeover.ts";
import { keepTunnel } from "./tunnel.ts";
import { DTMA_VERSION } from "./version.ts";
import { aborted, sleep } from "./waiting.ts";

/** How often the engine is looked at: that it went or came back shows on the toolbox page so soon. */
const FACTS_EVERY_MS = 5000;

/** Calls under way have so long for their answers when DTMA is told to stop. */
const ANSWER_MS = 7000;

const FLUSH_MS = 3000;

/** Less than what a stop is waited for by mooring-dtma.sh, and by its systemd unit and compose.yaml. */
const END_MS = ANSWER_MS + FLUSH_MS + 4000;

/** Counting a volume's bytes reads its directories: not often. */
const VOLUMES_EVERY_MS = 60_000;

/** Something that a person must mend; its message says what. */
class StartError extends Error {}

async function run(config: Config, log: Log, stopping: AbortController): Promise<void> {
  const ceiling = Ceiling.read(await readCeiling(config.ceilingFile));
  const directory = await DataDirectory.open(config.dataDirectory);
  const { signal } = stopping;
  const takeover = new Takeover(directory, config.run);
  const docker = new Docker(config.dockerHost, `${config.dataDirectory}/profiles`);
  const scanner = config.scanner === null ? null : new Scanner({
    path: config.scanner,
    directory: `${config.dataDirectory}/scanner`,
    certificates: Deno.env.get("NODE_EXTRA_CA_CERTS") || null,
  });
  const sandboxes = new Sandboxes(docker, ceiling.sandbox);
  const clock = new AppClock();
  const client = new AppClient(config.appUrl, (date) => clock.heardDate(date));
  let serveMcp: ReturnType<typeof dataPath> = () =>
    Promise.resolve(new Response(null, { status: 503 }));
  const { reach } = config;
  const server = reach === "direct" ? listen(config, (request) => serveMcp(request), log) : null;
  const address = server && (config.address ?? addressOf(server.addr));
  const links = new Set<Link>();
  const keepLink = (link: Link) => {
    links.add(link);
    link.closed.then(() => links.delete(link));
    // It was being made when the others were ended.
    if (signal.aborted) link.end("DTMA stops", ANSWER_MS + FLUSH_MS);
  };
  const endLinks = (timeoutMs: number) =>
    Promise.all([...links].map((link) => link.end("DTMA stops", timeoutMs)));
  const facts = () => {
    for (const link of links) clock.measured(link);
    const { rolledBack } = config;
    const own = {
      reach,
      address,
      ...clock.facts(),
      scanner: scanner?.kind ?? null,
      ...(rolledBack && { rolledBack }),
    };
    return hostFacts(docker, own, sandboxes);
  };
  log(
    "info",
    address
      ? `Listening at ${address}; the app is ${config.appUrl}`
      : `Calls come over a link to the app, ${config.appUrl}`,
  );

  try {
    const { state, key } = await enrolled(config, directory, client, facts, signal, log);
    const epoch = nextEpoch(state.epoch);
    // Without it nothing is lost but the order of two starts with a clock set back between them.
    await directory.keepState({ ...state, epoch }).catch((error) => {
      log("warning", `DTMA_DATA_DIR ${directory.path} cannot be written: ${error.message}`);
    });

    const reporter = new Reporter({ client, key, epoch, log });
    const scanning = scanner && new Scanning({
      scanner,
      billOf: (imageId) => billOf(config.dataDirectory, imageId),
      onScan: (serverId, scan) => reporter.scanned(serverId, scan),
    });
    const reconciler = await Reconciler.open({
      docker,
      toolboxId: state.toolboxId,
      dataDir: config.dataDirectory,
      openSession,
      ceiling,
      sandboxes,
      egress: config.egress,
      indexes: config.indexes,
      baseParents: config.baseParents,
      sourceDirectories: config.sourceDirectories,
      onDenied: (denial) => reporter.denied(denial),
      isOnTrial: () => takeover.isOnTrial,
      log,
      report: (observation) => {
        reporter.observe(observation);
        scanning?.saw(observation.serverId, observation.imageDigest);
      },
      event: (event) => reporter.event(event),
      refused: (refusal) => reporter.refused(refusal),
      removed: (serverId) => {
        reporter.removed(serverId);
        scanning?.removed(serverId);
      },
    });
    let { appPublicKey } = state;
    const serving = {
      reach: reconciler.reach.bind(reconciler),
      end: reconciler.end.bind(reconciler),
      logOf: reconciler.log.bind(reconciler),
      bomOf: reconciler.bom.bind(reconciler),
      stopping: signal,
    };
    serveMcp = dataPath({
      ...serving,
      appPublicKey: () => appPublicKey,
      onLink: keepLink,
      log: (line) => log("warning", line),
    });
    const onDesired = ({ servers, removing }: Desired) => {
      log("info", `${servers.length} servers are desired`);
      for (const { serverId, generation, refusal } of servers) {
        if (refusal) {
          log("warning", `Generation ${generation} of ${serverId} is refused: ${refusal}`);
        }
      }
      reconciler.apply(servers, removing);
    };
    const onAppKey = (key: string) => {
      if (key === appPublicKey) return;
      appPublicKey = key;
      log("info", "The app signs with another key now");
    };
    const rotation = new KeyRotation({ client, directory, key, log });
    const pull = new DesiredPull({
      client,
      key,
      facts,
      epoch,
      onDesired,
      onAppKey,
      onTurn: (failure) => takeover.turn(failure),
      rotation,
      log,
    });

    const tunnel = (until: AbortSignal) =>
      keepTunnel({
        appUrl: config.appUrl,
        key,
        appPublicKey: () => appPublicKey,
        serve: linkServing(serving),
        onLink: keepLink,
        log,
      }, until);

    /** Told to stop, takes no more calls and waits a while for those under way. */
    const answerCalls = async (until: AbortSignal) => {
      await aborted(until);
      if (!signal.aborted) return;
      const answered = async () => {
        await endLinks(ANSWER_MS + FLUSH_MS);
        // It closes WebSockets at once, which the app's links are (Deno 2.9).
        await server?.shutdown();
      };
      await Promise.race([answered(), sleep(ANSWER_MS)]);
    };

    // Whichever loop ends first ends the others.
    const ending = new AbortController();
    const until = AbortSignal.any([signal, ending.signal]);
    const reporting = new AbortController();
    // What servers do until then is reported too.
    const answering = answerCalls(until).finally(() => reporting.abort());
    try {
      await Promise.all([
        pull.run(until),
        takeover.watch({ docker, toolboxId: state.toolboxId, reconciler }, until),
        ...(reach === "tunnel" ? [tunnel(until)] : []),
        watchFacts(facts, () => pull.wake(), until),
        reporter.run(reporting.signal, FLUSH_MS),
        sampleContainers({
          docker,
          running: () => reconciler.running(),
          onSample: (sample) => reporter.sample(sample),
        }, until),
        // Large volumes are counted for minutes, which a stop does not wait for.
        Promise.race([measureVolumes(reconciler, until), aborted(until)]),
        ...(scanning ? [scanning.run(until)] : []),
        answering,
      ].map((loop) => loop.finally(() => ending.abort())));
    } catch (error) {
      if (error instanceof RevokedError) await directory.forgetEnrolment();
      throw error;
    } finally {
      // Calls still under way end with the sessions: what answers that gives still goes out.
      const ended = endLinks(FLUSH_MS);
      await reconciler.close();
      await ended;
    }
  } catch (error) {
    if (!signal.aborted) await takeover.failed((error as Error).message);
    throw error;
  } finally {
    await server?.shutdown();
    docker.close();
    directory.close();
  }
}

/** The file's text; null where there is none, unless it was named. */
async function readCeiling(path: string | null): Promise<string | null> {
  if (path === null) return null;
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new StartError(`DTMA_CEILING cannot be read: ${(error as Error).message}`);
  }
}

/** Who this toolbox is to the app: as kept, or by the token of a first start. */
async function enrolled(
  config: Config,
  directory: DataDirectory,
  client: AppClient,
  facts: () => Promise<HostFacts>,
  signal: AbortSignal,
  log: Log,
): Promise<{ state: State; key: ToolboxKey }> {
  const { privateKey, publicKey } = await directory.key();
  let state = await directory.state();
  if (!state) {
    const token = config.enrolmentToken;
    if (!token) {
      throw new StartError(
        "This toolbox is not enrolled. Make an enrolment token on the app's toolbox page and start " +
          "DTMA with it as MOORING_ENROLMENT_TOKEN",
      );
    }
    const answer = await enrol(client, { token, publicKey, facts }, { signal, log });
    state = { appUrl: config.appUrl, ...answer, epoch: null };
    await directory.keepState(state);
    log("info", `Enrolled as toolbox ${state.toolboxId}`);
  } else if (state.appUrl !== config.appUrl) {
    // The same app at another address, or another app, which will not know this toolbox.
    log("info", `MOORING_URL was ${state.appUrl} before`);
  }
  return { state, key: { keyId: state.toolboxId, privateKey } };
}

function listen(config: Config, handler: (request: Request) => Promise<Response>, log: Log) {
  try {
    return Deno.serve({
      ...config.listen,
      onListen: () => {},
      onError: (error) => {
        log("error", `A request failed: ${error instanceof Error ? error.stack : error}`);
        return new Response(null, { status: 500 });
      },
    }, handler);
  } catch (error) {
    const { hostname, port } = config.listen;
    throw new StartError(`Cannot listen at ${hostname}:${port}: ${(error as Error).message}`);
  }
}

function addressOf({ hostname, port }: Deno.NetAddr): string {
  return `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

/** Calls `onChange` when the facts become others, until `signal` is aborted. */
async function watchFacts(
  facts: () => Promise<HostFacts>,
  onChange: () => void,
  signal: AbortSignal,
): Promise<void> {
  let before = JSON.stringify(await facts());
  while (!signal.aborted) {
    await sleep(FACTS_EVERY_MS, signal);
    const now = JSON.stringify(await facts());
    if (now !== before) onChange();
    before = now;
  }
}

async function measureVolumes(reconciler: Reconciler, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(VOLUMES_EVERY_MS, signal);
    if (!signal.aborted) await reconciler.measureVolumes();
  }
}

/** Ends when the other end of standard input does, however the parent process ended. */
async function watchParent(onGone: () => void): Promise<void> {
  const buffer = new Uint8Array(256);
  try {
    while (await Deno.stdin.read(buffer) !== null);
  } catch {
    // A pipe that cannot be read has nobody at its other end either.
  }
  onGone();
}

async function main(): Promise<number> {
  if (Deno.args[0] === "--version") {
    console.log(`mooring-dtma ${DTMA_VERSION}`);
    return 0;
  }
  let log = createLog("text");
  const stopping = new AbortController();
  try {
    const config = readConfig(environment());
    log = createLog(config.logFormat);
    const stop = (why: string) => {
      if (stopping.signal.aborted) return;
      log("info", `Stopping (${why}); containers keep running`);
      stopping.abort();
      // Whatever hangs must not keep the lock from the next DTMA.
      Deno.unrefTimer(setTimeout(() => Deno.exit(0), END_MS));
    };
    Deno.addSignalListener("SIGTERM", () => stop("SIGTERM"));
    Deno.addSignalListener("SIGINT", () => stop("SIGINT"));
    if (config.endsWithStdin) watchParent(() => stop("the parent process is gone"));
    await run(config, log, stopping);
    return 0;
  } catch (error) {
    if (stopping.signal.aborted) return 0;
    if (error instanceof RevokedError) {
      log(
        "error",
        `The app refuses this toolbox (${error.message}). Its containers keep running. Enrol it ` +
          "again with a new token from the app's toolbox page",
      );
      return EXIT_UNWANTED;
    }
    if (error instanceof OvertakenError) {
      log(
        "error",
        `${error.message}, so this one stops; containers keep running. If that one runs on a copy of ` +
          "this data directory, enrol one of the two as a toolbox of its own: with an empty " +
          "DTMA_DATA_DIR and a new token from the app's toolbox page. If you know of no other, revoke " +
          "the toolbox there",
      );
      return EXIT_UNWANTED;
    }
    const isExpected = error instanceof StartError || error instanceof TypeError ||
      error instanceof DataDirectoryError || error instanceof EnrolmentError;
    log("error", isExpected ? error.message : String((error as Error).stack ?? error));
    return 1;
  }
}

/** By name, because that is what DTMA may read. */
function environment(): Record<string, string | undefined> {
  return Object.fromEntries(ENVIRONMENT.map((name) => [name, Deno.env.get(name)]));
}

if (import.meta.main) Deno.exit(await main());
