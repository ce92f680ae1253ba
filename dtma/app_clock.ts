/**
 * How far this host's clock is from the app's, and how long a message takes there and back. Signatures
 * are refused from {@link CLOCK_TOLERANCE_S} on, so a person is warned before.
 */
import type { Link } from "./link.ts";
import type { HostFacts } from "./protocol.ts";
import { CLOCK_TOLERANCE_S } from "./signature.ts";

const WARNING_MS = 30_000;

/** A `Date` header tells whole seconds, and is some way old when it comes. */
const DATE_ERROR_MS = 1500;
/** What is told stays as it is until it is wrong by so much: facts that change are written and shown. */
const OFFSET_STEP_MS = 250;
const ROUND_TRIP_STEP = 0.5;

/** Gathers what answers and links tell of the app's clock. */
export class AppClock {
  #offsetMs: number | null = null;
  #roundTripMs: number | null = null;

  /** An answer's `Date` header just came (RFC 9110 section 6.6.1). */
  heardDate(date: string | null): void {
    const time = Date.parse(date ?? "");
    if (Number.isNaN(time)) return;
    // The header's second is half over, as far as is known.
    this.#take(Date.now() - (time + 500), DATE_ERROR_MS);
  }

  /** A link to the app measured by its pings. */
  measured({ clockOffsetMs, roundTripMs }: Pick<Link, "clockOffsetMs" | "roundTripMs">): void {
    if (clockOffsetMs === null || roundTripMs === null) return;
    this.#take(-clockOffsetMs, OFFSET_STEP_MS + roundTripMs / 2);
    const told = this.#roundTripMs;
    const step = Math.max(2, (told ?? 0) * ROUND_TRIP_STEP);
    if (told === null || Math.abs(told - roundTripMs) > step) {
      this.#roundTripMs = Number(roundTripMs.toPrecision(2));
    }
  }

  /** What the toolbox's page shows. */
  facts(): Pick<HostFacts, "clockOffsetMs" | "clockWarning" | "roundTripMs"> {
    return {
      clockOffsetMs: this.#offsetMs,
      clockWarning: this.#warning(),
      roundTripMs: this.#roundTripMs,
    };
  }

  #take(offsetMs: number, errorMs: number): void {
    const told = this.#offsetMs;
    // A coarse measure that does not contradict the one told says nothing new.
    if (told !== null && Math.abs(told - offsetMs) <= errorMs) return;
    const rounded = Math.round(offsetMs / 100) * 100;
    this.#offsetMs = Math.abs(rounded) <= errorMs ? 0 : rounded;
  }

  #warning(): string | null {
    const offsetMs = this.#offsetMs;
    if (offsetMs === null || Math.abs(offsetMs) <= WARNING_MS) return null;
    return `This host's clock is ${Math.round(Math.abs(offsetMs) / 1000)} s ${
      offsetMs > 0 ? "ahead of" : "behind"
    } the app's. From ${CLOCK_TOLERANCE_S} s on each refuses the other's signatures: set both by NTP`;
  }
}
