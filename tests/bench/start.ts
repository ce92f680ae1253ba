/**
 * From nothing to an answered `initialize`: a container under Mooring's whole policy, the same image
 * bare over the Engine API, and `docker run -i` of it as a person would type.
 */
import { Docker } from "../../dtma/docker.ts";
import { type BuiltImage, Images } from "../../dtma/image.ts";
import { containerConfig, launchText } from "../../dtma/policy.ts";
import { openSession } from "../../dtma/session.ts";
import { fixtureSpec, withToolbox } from "../dtma/engine.ts";
import { printTimes } from "./load.ts";

const EVERYTHING = {
  registry: "npm" as const,
  name: "@modelcontextprotocol/server-everything",
  version: "2026.8.31",
  installScripts: false,
};

export async function measureStart({ count }: { count: number }) {
  const hasCli = await new Deno.Command("docker", { args: ["--version"], stdout: "null" }).output()
    .then(({ success }) => success, () => false);
  const times: Record<string, number[]> = {};
  await withToolbox(async ({ docker, id: toolboxId, dataDir }) => {
    const image = await new Images({ docker, toolboxId, dataDir }).ensure(EVERYTHING);
    const ways: Record<string, () => Promise<number>> = {
      "under the policy": () => hardenedContainer(docker, toolboxId, image),
      "bare, over the API": () => bareContainer(docker, image.id),
      ...(hasCli && { "docker run -i": () => dockerRun(docker, image) }),
    };
    // The first of each reads the image's files from the disk.
    for (let round = -1; round < count; round++) {
      for (const [name, measure] of Object.entries(ways)) {
        const ms = await measure();
        if (round >= 0) (times[name] ??= []).push(ms);
      }
    }
  });
  console.log(`\nstart: create to initialize answered, ${count} each in turn`);
  printTimes(times);
  if (!hasCli) console.log("docker run: not measured, there is no docker command here");
}

/** As DTMA starts it, with its secrets over standard input. */
async function hardenedContainer(
  docker: Docker,
  toolboxId: string,
  image: BuiltImage,
): Promise<number> {
  const spec = fixtureSpec("everything", { package: EVERYTHING, secrets: { TOKEN: "a-secret" } });
  const context = {
    toolboxId,
    image,
    specHash: "bench",
    instance: null,
    route: null,
    sandbox: null,
  };
  return await untilInitialized(docker, containerConfig(spec, context), launchText(spec));
}

/** The image as it is, with nothing taken from it but the network. */
export function bareContainer(docker: Docker, image: string): Promise<number> {
  return untilInitialized(docker, {
    Image: image,
    Entrypoint: ["node", "/app/server"],
    OpenStdin: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: { NetworkMode: "none" },
  });
}

async function untilInitialized(docker: Docker, config: unknown, first = ""): Promise<number> {
  const started = performance.now();
  const id = await docker.createContainer(`mooring-bench-${crypto.randomUUID()}`, config);
  try {
    const stdio = await docker.attachContainer(id);
    await docker.startContainer(id);
    if (first) {
      const writer = stdio.stdin.getWriter();
      await writer.write(new TextEncoder().encode(first)).finally(() => writer.releaseLock());
    }
    const ms = await initialized(stdio, started);
    stdio.close();
    return ms;
  } finally {
    await docker.removeContainer(id);
  }
}

async function dockerRun(docker: Docker, { id, command }: BuiltImage): Promise<number> {
  const started = performance.now();
  const name = `mooring-bench-${crypto.randomUUID()}`;
  const [entrypoint, ...args] = command;
  const child = new Deno.Command("docker", {
    args: ["run", "-i", "--name", name, "--entrypoint", entrypoint, id, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  try {
    return await initialized(child, started);
  } finally {
    // With its container the command ends: as the first process, node passes TERM and EOF over.
    await docker.removeContainer(name);
    await child.status;
  }
}

async function initialized(
  stdio: Parameters<typeof openSession>[0],
  startedMs: number,
): Promise<number> {
  const session = await openSession(stdio, {
    handshakeTimeoutMs: 60_000,
    skipProbe: true,
    log: () => {},
  });
  const ms = performance.now() - startedMs;
  session.close("measured");
  return ms;
}
