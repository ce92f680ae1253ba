/**
 * Runs the scanner that the host's owner named (trivy or grype) over a bill of materials. It is the one
 * program that DTMA ever starts: by its path alone (`--allow-run` names no other), with fixed
 * arguments, without a shell, in an environment of its own that holds nothing of DTMA's, and bounded in
 * time and output. What it prints is not trusted.
 */
import type { ImageScan } from "./protocol.ts";
import {
  readGrype,
  readTrivy,
  readTrivyVersion,
  ScanError,
  type ScannerFacts,
  type ScannerKind,
} from "./scan_result.ts";

export interface ScannerOptions {
  /** Absolute; its last part is `trivy` or `grype`. */
  path: string;
  /** Where it keeps its database, and is started. */
  directory: string;
  /** A CA file for networks that re-sign TLS, where the database comes over one. */
  certificates?: string | null;
  timeoutMs?: number;
  outputLimitBytes?: number;
}

/** A first run downloads the database, of some hundred megabytes. */
const TIMEOUT_MS = 10 * 60_000;

/** A report of some thousand findings. */
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024;
const ERRORS_LIMIT_BYTES = 64 * 1024;

/** Of a scan what the scanner found, or why there is nothing. */
export type Outcome = Pick<ImageScan, "scanner" | "outcome">;

export class Scanner {
  readonly kind: ScannerKind;
  readonly #options: Required<ScannerOptions>;

  constructor(options: ScannerOptions) {
    this.#options = {
      certificates: null,
      timeoutMs: TIMEOUT_MS,
      outputLimitBytes: OUTPUT_LIMIT_BYTES,
      ...options,
    };
    this.kind = options.path.endsWith("/grype") ? "grype" : "trivy";
  }

  /**
   * That it failed is an outcome too, whatever the reason.
   * @param file a bill of materials in CycloneDX, by a path that DTMA made
   * @throws the signal's reason
   */
  async scan(file: string, signal: AbortSignal): Promise<Outcome> {
    try {
      await Deno.mkdir(this.#options.directory, { recursive: true, mode: 0o700 });
      return this.kind === "grype"
        ? await this.#grype(file, signal)
        : await this.#trivy(file, signal);
    } catch (error) {
      signal.throwIfAborted();
      const reason = this.#reason(error).toWellFormed().slice(0, 500);
      const scanner = { name: this.kind, version: null, databaseAt: null };
      return { scanner, outcome: { state: "failed", reason } };
    }
  }

  async #trivy(file: string, signal: AbortSignal): Promise<Outcome> {
    const { directory } = this.#options;
    const shared = ["--quiet", "--cache-dir", directory];
    const output = await this.#run(["sbom", "--format", "json", ...shared, file], signal);
    const result = readTrivy(output);
    // After the scan, which may have brought a newer database.
    const facts = await this.#run(["version", "--format", "json", ...shared], signal)
      .then(readTrivyVersion, (): ScannerFacts => ({ version: null, databaseAt: null }));
    signal.throwIfAborted();
    return { scanner: { name: "trivy", ...facts }, outcome: { state: "scanned", ...result } };
  }

  async #grype(file: string, signal: AbortSignal): Promise<Outcome> {
    const output = await this.#run([`sbom:${file}`, "--output", "json", "--quiet"], signal);
    const { result, facts } = readGrype(output);
    return { scanner: { name: "grype", ...facts }, outcome: { state: "scanned", ...result } };
  }

  /** @returns all that it printed */
  async #run(args: string[], signal: AbortSignal): Promise<string> {
    const { path, directory, certificates, timeoutMs, outputLimitBytes } = this.#options;
    signal.throwIfAborted();
    const child = new Deno.Command(path, {
      args,
      // Its settings files (trivy.yaml, .trivyignore, .grype.yaml) are read from where it starts: the
      // host's owner may put them here.
      cwd: directory,
      clearEnv: true,
      env: {
        HOME: directory,
        GRYPE_DB_CACHE_DIR: `${directory}/grype`,
        GRYPE_CHECK_FOR_APP_UPDATE: "false",
        TRIVY_DISABLE_TELEMETRY: "true",
        TRIVY_SKIP_VERSION_CHECK: "true",
        ...(certificates && { SSL_CERT_FILE: certificates }),
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const end = new AbortController();
    const until = AbortSignal.any([signal, end.signal]);
    const seconds = Math.round(timeoutMs / 1000);
    const timer = setTimeout(
      () => end.abort(new ScanError(`It did not end within ${seconds} s`)),
      timeoutMs,
    );
    const tooMuch = new ScanError(
      `It printed over ${Math.round(outputLimitBytes / 1024 ** 2)} MiB`,
    );
    const kill = () => {
      try {
        // Not TERM, which what hangs may not heed.
        child.kill("SIGKILL");
      } catch {
        // It ended, and what it left behind holds its output open.
      }
    };
    until.addEventListener("abort", kill, { once: true });
    try {
      const [output, errors, status] = await Promise.all([
        read(child.stdout, outputLimitBytes, until, () => end.abort(tooMuch)),
        read(child.stderr, ERRORS_LIMIT_BYTES, until, () => {}),
        child.status,
      ]);
      until.throwIfAborted();
      if (!status.success) throw new ScanError(`It ended with code ${status.code}${said(errors)}`);
      return output;
    } finally {
      clearTimeout(timer);
      until.removeEventListener("abort", kill);
    }
  }

  #reason(error: unknown): string {
    const { path } = this.#options;
    if (error instanceof ScanError) return error.message;
    if (error instanceof Deno.errors.NotFound) return `There is no ${path}`;
    if (error instanceof Deno.errors.NotCapable) {
      return `DTMA may not run it: start DTMA with --allow-run=${path}`;
    }
    if (error instanceof Deno.errors.PermissionDenied) return `${path} is not executable`;
    return `${path} cannot be run: ${error instanceof Error ? error.message : error}`;
  }
}

/**
 * A stream up to a limit; what comes after that is let go of, so that its writer is not held up. Ends
 * with the signal too: a process that the writer left behind may keep the stream open.
 */
async function read(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  limitBytes: number,
  signal: AbortSignal,
  onOver: () => void,
): Promise<string> {
  const reader = stream.getReader();
  const stop = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", stop, { once: true });
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      total += value.length;
      if (total <= limitBytes) parts.push(value);
      else onOver();
    }
  } finally {
    signal.removeEventListener("abort", stop);
  }
  return await new Blob(parts).text();
}

/** The last line of what a program said of its failure. */
function said(errors: string): string {
  const line = errors.trim().split("\n").at(-1)?.trim();
  return line ? `: ${line.slice(0, 300)}` : "";
}
