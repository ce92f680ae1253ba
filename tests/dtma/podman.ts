/**
 * A podman service of the tests' own: its own network namespace, images, networks and volumes, so
 * that neither the machine's podman nor its Docker Engine is touched.
 */
import { Docker } from "../../dtma/docker.ts";
import { saveBase } from "../chaos/engine.ts";
import { absent as noBase } from "./engine.ts";
import { eventually } from "./observed.ts";

/** Why podman's tests cannot run here; null when they can. */
export const absent: string | null = await (async () => {
  if (Deno.uid() !== 0) return "a podman of the tests' own needs root";
  if (noBase) return `its images are copied from the Docker Engine, and ${noBase}`;
  for (const path of ["/usr/bin/podman", "/usr/libexec/podman/catatonit"]) {
    const there = await Deno.stat(path).then(() => true, () => false);
    if (!there) return `${path} is not installed (apt-get install podman catatonit)`;
  }
  return null;
})();
if (absent) console.warn(`SKIPPED, the tests on podman: ${absent}`);

/** Under two limits that a machine without CAP_SYS_RESOURCE cannot raise. */
const SETTINGS = `[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
`;

/** What docs/podman.md tells to do, for servers to outlive their DTMA. */
const CONMON = `#!/bin/sh\nexec /usr/bin/conmon --leave-stdin-open "$@"\n`;

/** An address of the host's that the egress proxy reaches: the internet, as far as these tests go. */
export const OUTSIDE = "10.77.0.1";

export class Podman {
  #process: Deno.ChildProcess | null = null;

  private constructor(readonly folder: string, readonly namespace: string) {}

  static async start(): Promise<Podman> {
    const folder = await Deno.makeTempDir({ prefix: "mooring-podman-" });
    const podman = new Podman(folder, `podman-${folder.slice(-8)}`);
    try {
      await run("ip", "netns", "add", podman.namespace);
      await run("nsenter", podman.#net, "ip", "link", "set", "lo", "up");
      await run("nsenter", podman.#net, "ip", "address", "add", `${OUTSIDE}/32`, "dev", "lo");
      await Deno.writeTextFile(`${folder}/conmon`, CONMON, { mode: 0o755 });
      await podman.serve({ leavesStdinOpen: false });
      await saveBase(`${folder}/base.tar`);
      await run(...podman.#command("load", "--quiet", "--input", `${folder}/base.tar`));
      return podman;
    } catch (error) {
      await podman[Symbol.asyncDispose]();
      throw error;
    }
  }

  get host(): string {
    return `unix://${this.folder}/podman.sock`;
  }

  /** Starts the service, or starts it again with another setting. Containers run on. */
  async serve({ leavesStdinOpen }: { leavesStdinOpen: boolean }): Promise<void> {
    await this.#end();
    const conmon = leavesStdinOpen ? `conmon_path = ["${this.folder}/conmon"]\n` : "";
    // crun refuses the mixed cgroups of some machines, runc takes them.
    const hasRunc = await Deno.stat("/usr/sbin/runc").then(() => true, () => false);
    const runtime = hasRunc ? `runtime = "runc"\n` : "";
    await Deno.writeTextFile(`${this.folder}/containers.conf`, SETTINGS + runtime + conmon);
    const [command, ...args] = this.#command("system", "service", "--time=0", this.host);
    const env = { CONTAINERS_CONF: `${this.folder}/containers.conf` };
    this.#process = new Deno.Command(command, { args, env, stdout: "null", stderr: "null" })
      .spawn();
    const docker = new Docker(this.host);
    await eventually(() => docker.version().then(() => true, () => false))
      .finally(() => docker.close());
  }

  /** The addresses (IPv4) that the host, which is the namespace here, has beside its loopback. */
  async hostAddresses(): Promise<string[]> {
    const text = await run("nsenter", this.#net, "ip", "-o", "-4", "address", "show");
    return [...text.matchAll(/inet ([\d.]+)/g)].map(([, address]) => address)
      .filter((address) => address !== "127.0.0.1");
  }

  /** Answers every request at {@link OUTSIDE} with `hello`. */
  async listen(port: number): Promise<AsyncDisposable> {
    const options = `{ hostname: "${OUTSIDE}", port: ${port}, onListen: () => console.log("up") }`;
    const server = `Deno.serve(${options}, () => new Response("hello"))`;
    const args = [this.#net, Deno.execPath(), "eval", server];
    const child = new Deno.Command("nsenter", { args, stdout: "piped", stderr: "null" }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    return {
      async [Symbol.asyncDispose]() {
        child.kill();
        await reader.cancel();
        await child.status;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(...this.#command("rm", "--all", "--force", "--time=0")).catch(console.error);
    await this.#end();
    const unmount = `grep " $0/" /proc/mounts | cut -d" " -f2 | sort -r | xargs -r umount -l`;
    await run("sh", "-c", unmount, this.folder);
    await run("ip", "netns", "del", this.namespace);
    await Deno.remove(this.folder, { recursive: true });
  }

  get #net(): string {
    return `--net=/var/run/netns/${this.namespace}`;
  }

  async #end(): Promise<void> {
    this.#process?.kill("SIGTERM");
    await this.#process?.status;
    this.#process = null;
  }

  #command(...args: string[]): [string, ...string[]] {
    const { folder } = this;
    return [
      "nsenter",
      this.#net,
      "podman",
      `--root=${folder}/root`,
      `--runroot=${folder}/run`,
      `--tmpdir=${folder}/tmp`,
      `--network-config-dir=${folder}/networks`,
      `--volumepath=${folder}/volumes`,
      "--storage-driver=overlay",
      ...args,
    ];
  }
}

async function run(...[command, ...args]: [string, ...string[]]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}
