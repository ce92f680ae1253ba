/** Runs an image's server as the policy has it, and speaks MCP with it over stdio. */
import type { BuiltImage } from "../../dtma/image.ts";
import { containerConfig } from "../../dtma/policy.ts";
import { fixtureSpec, type Toolbox } from "./engine.ts";

export interface Answer {
  id: number;
  result: Record<string, unknown>;
}

/** Sends `first` as it is, then requests in turn. @returns their answers; throws what the server said when it ended first */
export async function converse(
  { docker, id: toolboxId }: Toolbox,
  image: BuiltImage,
  requests: { method: string; params?: unknown }[],
  { memoryMiB = 512, first = image.hasLauncher ? "run\n" : "" } = {},
): Promise<Answer[]> {
  const spec = fixtureSpec("converse", { memoryMiB });
  const id = await docker.createContainer(
    `mooring-test-${crypto.randomUUID()}`,
    containerConfig(spec, {
      toolboxId,
      image,
      specHash: "none",
      instance: null,
      route: null,
      sandbox: null,
    }),
  );
  const attachment = await docker.attachContainer(id);
  try {
    await docker.startContainer(id);
    const stderr = new Response(attachment.stderr).text();
    const writer = attachment.stdin.getWriter();
    const reader = attachment.stdout.pipeThrough(
      new TextDecoderStream() as TransformStream<Uint8Array, string>,
    ).getReader();
    await writer.write(new TextEncoder().encode(first));
    const answers: Answer[] = [];
    let pending = "";
    for (const [index, { method, params = {} }] of requests.entries()) {
      const request = { jsonrpc: "2.0", id: index + 1, method, params };
      await writer.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
      while (answers.length <= index) {
        const end = pending.indexOf("\n");
        if (end >= 0) {
          const message = JSON.parse(pending.slice(0, end));
          pending = pending.slice(end + 1);
          if (message.id === index + 1) answers.push(message);
          continue;
        }
        const { done, value } = await reader.read();
        if (done) throw new Error(`The server ended: ${(await stderr).slice(-2000)}`);
        pending += value;
      }
    }
    return answers;
  } finally {
    attachment.close();
    await docker.removeContainer(id);
  }
}
