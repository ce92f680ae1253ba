/** Makes sure that this machine has a Docker Engine that answers, or says what a person must do. */
import { Docker, EngineAbsentError } from "./dtma/docker.ts";

export type EngineStatus =
  | { state: "ready"; version: string; apiVersion: string }
  | { state: "absent"; reason: string; advice: string };

export interface EngineOptions {
  /** Whether Docker may be installed with this system's package manager. */
  install: boolean;
  /** Told what is about to be done to this machine, before it is done. */
  log: (line: string) => void;
  /** Where the log of a Docker daemon that is started here goes, if no systemd keeps it. */
  logDirectory: string;
}

/** A probe of a socket that takes connections and never answers must end too. */
const PROBE_TIMEOUT_MS = 10_000;

const START_TIMEOUT_MS = 60_000;

const PACKAGES = ["docker.io", "iptables", "ca-certificates"];

/**
 * Finds the Docker Engine at `DOCKER_HOST` (default: the socket in /var/run). Without a `DOCKER_HOST`
 * and as root, an engine that does not run is started, and on Debian and Ubuntu a missing one is
 * installed if `install` says so. Never throws for a machine's condition: it is told as `absent`.
 */
export async function ensureEngine(options: EngineOptions): Promise<EngineStatus> {
  const found = await probe();
  // An engine that DOCKER_HOST names is another's to start.
  if (found.state !== "down" || Deno.env.get("DOCKER_HOST")) return answer(found);
  if (Deno.build.os !== "linux") {
    return answer({ ...found, advice: "Start Docker Desktop, or another Docker Engine." });
  }
  const installed = await hasDockerd();
  if (Deno.uid() !== 0) {
    const advice = installed
      ? "Start it (sudo systemctl start docker), and let this user use it (sudo usermod -aG " +
        "docker $USER, then sign in again)."
      : `${await howToInstall("sudo ")}, and let this user use it (sudo usermod -aG docker ` +
        "$USER, then sign in again).";
    return answer({ ...found, advice });
  }
  try {
    if (!installed) {
      if (!options.install || !await isDebian()) {
        return answer({
          ...found,
          reason: "Docker is not installed on this machine",
          advice: `${await howToInstall("")}, then start Mooring again.`,
        });
      }
      await install(options.log);
    }
    return answer(await start(options));
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return {
      state: "absent",
      reason: error.message,
      advice: installed
        ? "Start Docker by hand (systemctl start docker, or service docker start) and see its log."
        : `${await howToInstall("")}, then start Mooring again.`,
    };
  }
}

/** `down`: nothing listens at the socket, which starting an engine may change. */
type Probe = EngineStatus | { state: "down"; reason: string; advice: string };

function answer(found: Probe): EngineStatus {
  if (found.state === "ready") return found;
  return { state: "absent", reason: found.reason, advice: found.advice };
}

async function probe(): Promise<Probe> {
  let docker: Docker | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    docker = new Docker();
    const version = docker.version();
    version.catch(() => {}); // when the deadline below was first
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(hung), PROBE_TIMEOUT_MS);
    });
    const { Version, ApiVersion } = await Promise.race([version, deadline]);
    return { state: "ready", version: Version, apiVersion: ApiVersion };
  } catch (error) {
    if (!(error instanceof EngineAbsentError)) throw error;
    const { reason, advice } = error;
    const down = docker !== null && error !== hung && await isDown(docker.socketPath);
    return { state: down ? "down" : "absent", reason, advice };
  } finally {
    clearTimeout(timer);
    docker?.close();
  }
}

const hung = new EngineAbsentError(
  `The Docker Engine did not answer within ${PROBE_TIMEOUT_MS / 1000} seconds`,
  "See its log (journalctl -u docker) and start it again.",
);

async function isDown(socketPath: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path: socketPath })).close();
    return false;
  } catch (error) {
    return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused;
  }
}

async function install(log: (line: string) => void): Promise<void> {
  log(`Docker is not installed; installing ${PACKAGES.join(", ")} with apt-get`);
  const wait = "-oDPkg::Lock::Timeout=120"; // unattended upgrades hold the lock on fresh machines
  await run("apt-get", ["update", "-qq", wait]);
  await run("apt-get", ["install", "-qq", "--yes", "--no-install-recommends", wait, ...PACKAGES]);
}

/** Starts the engine so that it outlives this process, and waits until it answers. */
async function start({ log, logDirectory }: EngineOptions): Promise<Probe> {
  const systemd = await exists("/run/systemd/system");
  const logFile = `${logDirectory}/dockerd.log`;
  // Its package may have started it.
  let found = await probe();
  if (found.state !== "down") return found;
  if (systemd) {
    log("Starting Docker with systemctl");
    await run("systemctl", ["start", "docker"]);
  } else {
    log(`Starting Docker in the background; its log is ${logFile}`);
    await forgetZombies();
    // live-restore: containers go on while the daemon is restarted.
    const command = 'exec setsid --fork dockerd --live-restore >>"$1" 2>&1 </dev/null';
    await run("sh", ["-c", command, "sh", logFile]);
  }
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (found.state !== "ready" && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    found = await probe();
  }
  if (found.state === "ready") {
    log(`Docker Engine ${found.version} answers`);
    return found;
  }
  return {
    state: "absent",
    reason: `Docker was started and did not answer within ${START_TIMEOUT_MS / 1000} seconds`,
    advice: `Its log says why: ${systemd ? "journalctl -u docker" : logFile}.`,
  };
}

/**
 * Removes the pid files of a killed engine whose processes nobody waited for, as under a container's
 * or a small VM's first process: dockerd takes such a zombie for a running one and does not start
 * ("pid file found", or a wait for a containerd that never answers; seen with 20.10).
 */
async function forgetZombies(): Promise<void> {
  for (const file of ["/var/run/docker.pid", "/var/run/docker/containerd/containerd.pid"]) {
    const pid = (await Deno.readTextFile(file).catch(() => "")).trim();
    if (!/^\d+$/.test(pid)) continue;
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => "");
    // After the name in parentheses, which may hold anything: Z for a zombie.
    if (/\) Z [^)]*$/.test(stat)) await Deno.remove(file);
  }
}

async function isDebian(): Promise<boolean> {
  const release = await Deno.readTextFile("/etc/os-release").catch(() => "");
  return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(release);
}

async function howToInstall(sudo: string): Promise<string> {
  return await isDebian()
    ? `Install Docker (${sudo}apt-get install ${PACKAGES.join(" ")})`
    : "Install Docker Engine (https://docs.docker.com/engine/install/) and start it";
}

/** Where packages put daemons is not on every user's PATH. */
const PATH = `${Deno.env.get("PATH") ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

async function hasDockerd(): Promise<boolean> {
  const found = await Promise.all(PATH.split(":").map((each) => exists(`${each}/dockerd`)));
  return found.some(Boolean);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** A program failed: its last words. */
class CommandError extends Error {}

async function run(program: string, args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, {
    args,
    env: { PATH, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output().catch((error: Error) => {
    throw new CommandError(`${program} cannot be run: ${error.message}`);
  });
  if (success) return;
  const said = new TextDecoder().decode(stderr).trim().split("\n").slice(-3).join(" ");
  throw new CommandError(`${[program, ...args].join(" ")} failed: ${said}`);
}
