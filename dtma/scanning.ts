/** Which images are scanned for vulnerabilities, when, and who is told. */
import type { ImageScan } from "./protocol.ts";
import type { Outcome, Scanner } from "./scanner.ts";
import { sleep } from "./waiting.ts";

export interface ScanningOptions {
  scanner: Pick<Scanner, "scan">;
  /** The file with an image's bill of materials; null where there is none. */
  billOf: (imageId: string) => Promise<{ file: string; components: number } | null>;
  onScan: (serverId: string, scan: ImageScan) => void;
  /** A database of vulnerabilities is made anew about once a day. */
  everyMs?: number;
  /** After a scan that failed. */
  retryMs?: number;
  /** How often it is looked whether one is due. */
  lookMs?: number;
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/** Scans the images of a toolbox's servers: each once after it was made, and then daily. */
export class Scanning {
  readonly #options: Required<ScanningOptions>;
  /** The image of each server. */
  readonly #images = new Map<string, string>();
  readonly #scans = new Map<string, { scan: ImageScan; dueMs: number }>();
  #changed = Promise.withResolvers<void>();

  constructor(options: ScanningOptions) {
    this.#options = { everyMs: DAY_MS, retryMs: HOUR_MS, lookMs: 60_000, ...options };
  }

  /** A server is on this image now. */
  saw(serverId: string, imageId: string | null): void {
    if (imageId === null || this.#images.get(serverId) === imageId) return;
    this.#images.set(serverId, imageId);
    const known = this.#scans.get(imageId);
    if (known) this.#options.onScan(serverId, known.scan);
    this.#changed.resolve();
  }

  removed(serverId: string): void {
    this.#images.delete(serverId);
  }

  /** Scans one image after the other until `signal` is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const imageId = this.#due();
      if (imageId) {
        await this.#scan(imageId, signal);
        continue;
      }
      this.#changed = Promise.withResolvers();
      const looking = new AbortController();
      const until = AbortSignal.any([signal, looking.signal]);
      await Promise.race([this.#changed.promise, sleep(this.#options.lookMs, until)]);
      looking.abort();
    }
  }

  #due(): string | undefined {
    const inUse = new Set(this.#images.values());
    for (const imageId of this.#scans.keys()) {
      if (!inUse.has(imageId)) this.#scans.delete(imageId);
    }
    const now = performance.now();
    return [...inUse].find((imageId) => (this.#scans.get(imageId)?.dueMs ?? 0) <= now);
  }

  async #scan(imageId: string, signal: AbortSignal): Promise<void> {
    const { onScan, everyMs, retryMs } = this.#options;
    const { components, scanner, outcome: of } = await this.#look(imageId, signal);
    if (signal.aborted) return;
    const at = new Date().toISOString();
    const scan: ImageScan = { imageId, at, components, scanner, outcome: of };
    const waitMs = of.state === "scanned" ? everyMs : retryMs;
    this.#scans.set(imageId, { scan, dueMs: performance.now() + waitMs });
    for (const [serverId, image] of this.#images) if (image === imageId) onScan(serverId, scan);
  }

  async #look(
    imageId: string,
    signal: AbortSignal,
  ): Promise<Outcome & Pick<ImageScan, "components">> {
    const { scanner, billOf } = this.#options;
    const failed = (reason: string) => (
      { components: 0, scanner: null, outcome: { state: "failed" as const, reason } }
    );
    try {
      const bill = await billOf(imageId);
      if (!bill) return failed("Its image has no bill of materials on this toolbox");
      return { components: bill.components, ...await scanner.scan(bill.file, signal) };
    } catch (error) {
      return failed(`Its bill of materials cannot be read: ${error}`.slice(0, 500));
    }
  }
}
