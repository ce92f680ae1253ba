/**
 * A stand-in for the Edge Runtime, which cannot be had here: it runs a function's bundle as processes of Deno
 * that may do nothing but reach the addresses they need and serve their own port, in 256 MiB; sends each request
 * to any of them, at the path that the gateway gives it; and ends each after a short life, streams and all.
 */
import { freePort } from "../free_port.ts";

export interface IsolatesOptions {
  bundle: string;
  /** The function's name, which its paths begin with. */
  name: string;
  secrets: Record<string, string>;
  /** `host:port` of all that it reaches. */
  reaches: string[];
  /** The port of the gateway. */
  port: number;
  count: number;
  /** How long each takes requests, at least and at most; null: for ever. */
  lifeMs: [number, number] | null;
}

/** How long streams go on once no more comes, and what is answered is answered: then the isolate is killed. */
const GRACE_MS = 1000;

interface Isolate {
  port: number;
  process: Deno.ChildProcess;
  /** Requests that are not answered yet. */
  answering: number;
}

/** Starts the gateway with its isolates; resolves once they serve. */
export async function startIsolates(options: IsolatesOptions) {
  const { name, count, lifeMs, port } = options;
  const serving: Isolate[] = [];
  const all = new Set<Isolate>();
  const stderr: string[] = [];
  let ended = 0, isOver = false;
  const outside = `/functions/v1/${name}`;

  async function start(): Promise<void> {
    const own = freePort();
    const reaches = [...options.reaches, `0.0.0.0:${own}`, `127.0.0.1:${own}`];
    const process = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-config",
        "--no-lock",
        "--no-prompt",
        "--no-remote",
        "--v8-flags=--max-old-space-size=256",
        "--allow-env",
        `--allow-net=${reaches.join(",")}`,
        options.bundle,
      ],
      env: { ...options.secrets, PORT: String(own) },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const isolate = { port: own, process, answering: 0 };
    all.add(isolate);
    read(process.stderr);
    while (!isOver && !await answers(own)) await sleep(50);
    serving.push(isolate);
    if (!lifeMs || isOver) return;
    const [least, most] = lifeMs;
    setTimeout(() => void retire(isolate), least + Math.random() * (most - least));
  }

  async function retire(isolate: Isolate): Promise<void> {
    if (isOver) return;
    await start();
    serving.splice(serving.indexOf(isolate), 1);
    await sleep(GRACE_MS);
    while (!isOver && isolate.answering > 0) await sleep(50);
    await end(isolate);
  }

  async function end(isolate: Isolate): Promise<void> {
    if (!all.delete(isolate)) return;
    ended++;
    isolate.process.kill("SIGKILL");
    await isolate.process.status;
  }

  async function read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of stream) stderr.push(decoder.decode(bytes, { stream: true }));
  }

  await Promise.all(Array.from({ length: count }, start));
  const gateway = Deno.serve(
    { hostname: "127.0.0.1", port, onListen: () => {} },
    async (request, { remoteAddr }) => {
      const url = new URL(request.url);
      if (!url.pathname.startsWith(outside)) return new Response("No function", { status: 404 });
      const isolate = serving[Math.floor(Math.random() * serving.length)];
      const headers = new Headers(request.headers);
      headers.set("x-forwarded-for", remoteAddr.hostname);
      headers.delete("host");
      const path = `/${name}${url.pathname.slice(outside.length)}${url.search}`;
      const init = { method: request.method, headers, body: request.body, signal: request.signal };
      isolate.answering++;
      let isUnderWay = true;
      const answered = () => {
        if (isUnderWay) isolate.answering--;
        isUnderWay = false;
      };
      try {
        const response = await fetch(`http://127.0.0.1:${isolate.port}${path}`, {
          ...init,
          redirect: "manual",
        });
        const answer = new Headers(response.headers);
        // What fetch unpacked is not packed any more.
        answer.delete("content-encoding");
        answer.delete("content-length");
        // Of a stream the beginning has to come, of anything else all.
        const isStream = answer.get("content-type")?.startsWith("text/event-stream");
        const body = response.body?.pipeThrough(
          new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
            transform(bytes, controller) {
              if (isStream) answered();
              controller.enqueue(bytes);
            },
            flush: answered,
            cancel: answered,
          }),
        );
        if (!body) answered();
        return new Response(body, { status: response.status, headers: answer });
      } catch (error) {
        answered();
        return new Response(`The isolate ended: ${error}`, { status: 502 });
      }
    },
  );

  return {
    /** What the isolates logged. */
    stderr,
    ended: () => ended,
    /** Processor time of the only isolate so far, in milliseconds; the clock's ticks are of 10. */
    async cpuMs(): Promise<number> {
      const stat = await Deno.readTextFile(`/proc/${serving[0].process.pid}/stat`);
      const [utime, stime] = stat.slice(stat.lastIndexOf(")")).split(" ").slice(12, 14).map(Number);
      return (utime + stime) * 10;
    },
    async memoryMb(): Promise<number> {
      const status = await Deno.readTextFile(`/proc/${serving[0].process.pid}/status`);
      return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
    },
    async close() {
      isOver = true;
      await Promise.all([...all].map(end));
      await gateway.shutdown();
    },
  };
}

async function answers(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/app/healthz`);
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
