/** Images that come from elsewhere: pulled from a registry, or imported as a tar of a root. */
import { type Docker, DockerError } from "../dtma/docker.ts";

/** What a person can mend: its message alone is shown. */
export class BaseError extends Error {}

/** An engine says nothing while it cannot reach a registry; its own attempts end after about this. */
const PULL_SILENCE_MS = 60_000;

/** @returns null when the engine has pulled it, else why not */
export async function pull(docker: Docker, reference: string): Promise<string | null> {
  const named = /@|:[^/]+$/.test(reference) ? reference : `${reference}:latest`;
  try {
    await createImage(docker, { fromImage: named });
    return null;
  } catch (error) {
    if (error instanceof DockerError) return error.message.trim().replaceAll(/\s+/g, " ");
    throw error;
  }
}

/**
 * `POST /images/create`, a pull or an import. Its errors come inside a stream that began with 200.
 * @see https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageCreate
 */
export async function createImage(
  docker: Docker,
  query: Record<string, string>,
  tar?: ReadableStream<Uint8Array>,
): Promise<void> {
  using client = Deno.createHttpClient({
    proxy: { transport: "unix", path: docker.socketPath },
  });
  const silence = new AbortController();
  const heard = () => {
    clearTimeout(timer);
    if (!tar) timer = setTimeout(() => silence.abort(), PULL_SILENCE_MS);
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  heard();
  try {
    const request: RequestInit & { client: Deno.HttpClient } = {
      method: "POST",
      client,
      signal: silence.signal,
      body: tar,
      headers: tar ? { "content-type": "application/x-tar" } : {},
    };
    const { ApiVersion } = await docker.version();
    const url = `http://localhost/v${ApiVersion}/images/create?${new URLSearchParams(query)}`;
    const response = await fetch(url, request);
    let text = "";
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      heard();
      text = (text + part).slice(-16_384); // an error is the stream's last line
    }
    if (!response.ok) throw new DockerError(response.status, messageOf(text));
    const last = text.trim().split("\n").at(-1)!;
    if (last.includes('"error"')) throw new DockerError(200, messageOf(last));
  } catch (error) {
    if (!silence.signal.aborted) throw error;
    throw new DockerError(200, `nothing came for ${PULL_SILENCE_MS / 1000} seconds`);
  } finally {
    clearTimeout(timer);
  }
}

function messageOf(text: string): string {
  try {
    const { message, error } = JSON.parse(text);
    return message ?? error ?? text;
  } catch {
    return text;
  }
}
