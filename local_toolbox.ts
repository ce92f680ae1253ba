/** This machine's toolbox: its DTMA as a child process with permissions of its own. */
import { dtmaPermissions } from "./dtma/permissions.ts";
import { EXIT_UNWANTED } from "./dtma/protocol.ts";
import type { EngineStatus } from "./engine.ts";
import type { Database } from "./models/db.ts";
import { errorFields, type Log } from "./models/log.ts";
import { putLocalToolbox } from "./models/toolboxes.ts";

/** First wait before a DTMA that ended is started again; doubles up to {@link LONGEST_MS}. */
const RESTART_MS = 1000;
const LONGEST_MS = 60_000;
/** The wait when the app itself wanted the DTMA no more: soon again, it would only be told so again. */
const UNWANTED_MS = 5 * 60_000;

/** The maker of the base image is told to end, and what it unpacked is removed. */
const MAKER_ENDS_MS = 5000;

/** A process of Deno listens for signals by then. */
const LISTENS_MS = 5000;

/**
 * Starts the local toolbox: the Docker Engine and the base image are made ready and the DTMA is
 * kept running, all in the background, so that the first page does not wait for them.
 *
 * @returns how to stop it, while containers keep running, and how to signal a DTMA that is up; `willStop` says
 *   that it is stopped soon, and that a DTMA which ends is not to be started again
 */
export async function startLocalToolbox(options: {
  db: Database;
  /** Where the DTMA reaches the app, on the loopback address. */
  appUrl: string;
  dataDirectory: string;
  prepareEngine: () => Promise<EngineStatus>;
  log: Log;
}): Promise<{ willStop(): void; stop(): Promise<void>; signal(name: Deno.Signal): void }> {
  const { db, log } = options;
  const directory = `${options.dataDirectory}/dtma`;
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });

  let child: Deno.ChildProcess | null = null;
  let maker: Deno.ChildProcess | null = null;
  let startedAt = 0;
  let stopped = false;
  let wake = () => {};

  async function keepDtmaRunning() {
    for (let waitMs = RESTART_MS; !stopped; waitMs = Math.min(waitMs * 2, LONGEST_MS)) {
      startedAt = Date.now();
      const ended = await runDtma().catch((error) => ({ error }));
      if (stopped) return;
      if (Date.now() - startedAt > 60_000) waitMs = RESTART_MS;
      if ("error" in ended) {
        // The database may be away just now, or the machine out of processes: the app goes on.
        log.error("The local toolbox's DTMA could not be started, and is tried again", {
          ...errorFields(ended.error),
          inMs: waitMs,
        });
      } else {
        if (ended.code === EXIT_UNWANTED) waitMs = UNWANTED_MS;
        log.warn("The local toolbox's DTMA ended and is started again", {
          code: ended.code,
          signal: ended.signal,
          inMs: waitMs,
        });
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        wake = () => (clearTimeout(timer), resolve());
      });
    }
  }

  async function runDtma(): Promise<Deno.CommandStatus> {
    const enrolled = await Deno.stat(`${directory}/state.json`).then(() => true, () => false);
    const { enrolmentToken } = await putLocalToolbox(db, { enrol: !enrolled });
    const scanner = await findScanner();
    if (stopped) throw new Error("All is stopped");
    child = startDtma(directory, options.appUrl, enrolmentToken, scanner);
    try {
      return await child.status;
    } finally {
      child = null;
    }
  }

  async function prepare() {
    const engine = await options.prepareEngine();
    if (engine.state === "absent") {
      log.warn("No Docker Engine answers, so servers cannot run yet", {
        reason: engine.reason,
        advice: engine.advice,
      });
      return;
    }
    // What a killed start left of its own.
    const temporary = `${options.dataDirectory}/base-image`;
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    await Deno.mkdir(temporary, { mode: 0o700 });
    if (!stopped) await makeBaseImage(maker = startMaker(temporary), log);
    maker = null;
    await Deno.remove(temporary, { recursive: true });
  }

  function willStop() {
    stopped = true;
    wake();
  }

  const running = keepDtmaRunning();
  const preparing = prepare().catch((error) =>
    log.error("This machine could not be made ready to run servers", { error: String(error) })
  );
  return {
    willStop,
    signal(name) {
      // Younger, it may not listen yet, and would end.
      if (Date.now() - startedAt < LISTENS_MS) return;
      try {
        child?.kill(name);
      } catch {
        // It ended just now.
      }
    },
    async stop() {
      willStop();
      child?.kill("SIGTERM");
      const waitMs = maker ? MAKER_ENDS_MS : 200;
      if (maker) endMaker(maker);
      await running;
      // An engine that is being installed is not waited for.
      await Promise.race([preparing, new Promise((resolve) => setTimeout(resolve, waitMs))]);
    },
  };
}

/** A scanner of images on this machine; DTMA_SCANNER names another one, or, empty, none. */
async function findScanner(): Promise<string | null> {
  const given = Deno.env.get("DTMA_SCANNER");
  if (given !== undefined) return given || null;
  const directories = (Deno.env.get("PATH") ?? "").split(":").filter((each) => /^\//.test(each));
  for (const name of ["trivy", "grype"]) {
    for (const directory of directories) {
      const path = `${directory.replace(/\/+$/, "")}/${name}`;
      const info = await Deno.stat(path).catch(() => null);
      if (info?.isFile && ((info.mode ?? 0) & 0o111) !== 0) return path;
    }
  }
  return null;
}

function startDtma(
  directory: string,
  appUrl: string,
  token: string | null,
  scanner: string | null,
): Deno.ChildProcess {
  const inherited = [
    "PATH",
    "HOME",
    "DENO_DIR",
    "DOCKER_HOST",
    "LOG_FORMAT",
    "NODE_EXTRA_CA_CERTS",
    "DTMA_CEILING",
    "DTMA_SUBNETS",
    "DTMA_PRIVATE_NETWORKS",
    "DTMA_NPM_REGISTRY",
    "DTMA_PYPI_INDEX",
    "DTMA_NUGET_SOURCE",
    "DTMA_SOURCE_DIRECTORIES",
  ];
  const environment = Object.fromEntries(
    inherited.flatMap((name) => Deno.env.get(name)?.trim() ? [[name, Deno.env.get(name)!]] : []),
  );
  const env = {
    ...environment,
    MOORING_URL: appUrl,
    DTMA_DATA_DIR: directory,
    // images/base.ts makes them, beside it.
    DTMA_BASE_IMAGES: "given",
    // It ends when this pipe closes: a killed app leaves no DTMA behind to fight the next one's.
    DTMA_PARENT: "stdin",
    // It takes the signal of memory_at_rest.ts.
    DENO_USR2_MEMORY_TRIM: "1",
    ...(scanner ? { DTMA_SCANNER: scanner } : {}),
    ...(token ? { MOORING_ENROLMENT_TOKEN: token } : {}),
  };
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", ...dtmaPermissions(env), DTMA],
    clearEnv: true,
    env,
    stdin: "piped",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
}

const DTMA = new URL("./dtma/main.ts", import.meta.url).href;

/** Makes `mooring/node:24` if it is not there, in a process group of its own. */
function startMaker(temporary: string): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--allow-env",
      "--allow-sys=uid",
      "--allow-net",
      "--allow-read",
      "--allow-write",
      "--allow-run=apt-get,sh,tar,ldconfig",
      new URL("./images/base.ts", import.meta.url).href,
    ],
    env: { TMPDIR: temporary },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    detached: true,
  }).spawn();
}

/** Ends it with what it runs: the next start makes the image. */
function endMaker({ pid }: Deno.ChildProcess) {
  try {
    Deno.kill(-pid, "SIGTERM");
  } catch {
    // It ended just now.
  }
}

/** Tells what the maker of the base image does, until it has ended. */
async function makeBaseImage(child: Deno.ChildProcess, log: Log) {
  const tell = async (
    lines: ReadableStream<Uint8Array<ArrayBuffer>>,
    report: (line: string) => void,
  ) => {
    for await (const text of lines.pipeThrough(new TextDecoderStream())) {
      for (const line of text.split("\n")) if (line.trim()) report(line);
    }
  };
  const [status] = await Promise.all([
    child.status,
    tell(child.stdout, (line) => log.info(line)),
    tell(child.stderr, (line) => log.warn(line)),
  ]);
  if (status.success || status.signal === "SIGTERM") return;
  log.warn("The base image for Node servers is not there yet");
}
