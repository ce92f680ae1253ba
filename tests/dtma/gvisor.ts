/** A Docker Engine of the tests' own that has gVisor (Debian's `runsc`) beside its own runtime. */
import { Engine, saveBase } from "../chaos/engine.ts";
import { History } from "../chaos/history.ts";
import { absent as noBase, type Toolbox } from "./engine.ts";

const RUNSC = Deno.env.get("MOORING_TEST_RUNSC") ?? "/usr/bin/runsc";

/** Why the tests in gVisor cannot run here; null when they can. */
export const absent: string | null = await (async () => {
  if (Deno.uid() !== 0) return "a Docker Engine of the tests' own needs root";
  if (noBase) return `its images are copied from the Docker Engine, and ${noBase}`;
  const there = await Deno.stat(RUNSC).then(() => true, () => false);
  return there ? null : `${RUNSC} is not installed (apt-get install runsc)`;
})();
if (absent) console.warn(`SKIPPED, the tests in gVisor: ${absent}`);

/** Such as `runsc version 0.0~20221219.0`. */
export async function gvisorVersion(): Promise<string> {
  const { stdout } = await new Deno.Command(RUNSC, { args: ["--version"] }).output();
  return new TextDecoder().decode(stdout).split("\n")[0];
}

/** A test on such an engine; counted as skipped where there is no gVisor. */
export function gvisorTest(
  name: string,
  run: (toolbox: GvisorToolbox, t: Deno.TestContext) => Promise<void>,
) {
  Deno.test({
    name: absent ? `${name} (skipped: ${absent})` : name,
    ignore: absent !== null,
    fn: (t) => withGvisor((toolbox) => run(toolbox, t)),
  });
}

export interface GvisorToolbox extends Toolbox {
  engine: Engine;
  runtimes: Runtimes;
  /** Has the engine read another list of runtimes, as `systemctl reload docker` does. */
  setRuntimes(runtimes: Runtimes): Promise<void>;
}

export type Runtimes = Record<string, { path: string; runtimeArgs?: string[] }>;

/**
 * gVisor before August 2024 takes a network namespace for the host's own if it has certain sysctls,
 * which since Linux 6.11 each has (google/gvisor#10704), and then starts nothing. Of such a version
 * they are hidden; nothing else of it is another.
 */
const WRAPPER = `#!/bin/sh
case " $* " in
  *" start "*) exec unshare --mount sh -c 'mount -t tmpfs tmpfs /proc/sys/net && exec "$@"' sh ${RUNSC} "$@" ;;
  *) exec ${RUNSC} "$@" ;;
esac
`;

/**
 * gVisor as Mooring advises to register it, and as `runsc install` does without a word; with the
 * arguments that fit this version of it.
 */
async function gvisor(folder: string): Promise<Runtimes> {
  const path = `${folder}/runsc`;
  await Deno.writeTextFile(path, WRAPPER, { mode: 0o755 });
  const { stdout, stderr } = await new Deno.Command(RUNSC, { args: ["flags"] }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  // ptrace is slower and everywhere; systrap came in 2023. KVM is not to be had in every machine.
  const platform = said.includes("systrap") ? "systrap" : "ptrace";
  const runtimeArgs = [`--platform=${platform}`];
  return {
    runsc: { path, runtimeArgs: [...runtimeArgs, "--oci-seccomp"] },
    "runsc-plain": { path, runtimeArgs },
  };
}

export async function withGvisor(
  run: (toolbox: GvisorToolbox) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "mooring-gvisor-" });
  using history = new History(`${folder}/history.jsonl`);
  try {
    const archive = `${folder}/base.tar`;
    await saveBase(archive);
    const runtimes = await gvisor(folder);
    await using engine = await Engine.start({
      folder,
      name: `gvisor-${folder.slice(-6)}`,
      archive,
      history,
      runtimes,
    });
    const dataDir = `${folder}/toolbox`;
    await Deno.mkdir(dataDir);
    const { docker } = engine;
    const toolbox: GvisorToolbox = {
      engine,
      runtimes,
      docker,
      id: crypto.randomUUID(),
      dataDir,
      async setRuntimes(runtimes) {
        await Deno.writeTextFile(`${folder}/daemon.json`, JSON.stringify({ runtimes }));
        Deno.kill(Number(await Deno.readTextFile(`${folder}/docker.pid`)), "SIGHUP");
        const wanted = Object.keys(runtimes).sort().join();
        for (;;) {
          const known = Object.keys((await docker.info()).Runtimes ?? {});
          const own = known.filter((name) => name !== "runc" && !name.startsWith("io.containerd."));
          if (own.sort().join() === wanted) return;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      },
    };
    try {
      await run(toolbox);
    } finally {
      // What outlives its engine is nobody's: it would run on.
      for (const { Id } of await docker.listContainers([])) await docker.removeContainer(Id);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
