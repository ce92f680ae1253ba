/**
 * What one token may ask of one replica: far more than an agent at work does, and less than one that
 * runs away in a loop. In memory: a replica guards itself.
 */
import { TooMany } from "./revisions.ts";

/** Requests answered at the same time. */
export const IN_FLIGHT_LIMIT = 512;
/** Event streams open at the same time, which cost memory alone. */
export const STREAMS_LIMIT = 256;
/** Requests a second in the long run, and how many may come at once after a pause. */
export const RATE_PER_S = 2000;
export const BURST = 10_000;

interface Use {
  inFlight: number;
  streams: number;
  /** Requests that may still come now, as of `at`. */
  allowance: number;
  at: number;
}

export interface Limits {
  /** Counts a request in. @returns the way to count it out @throws {TooMany} */
  request(tokenId: string): () => void;
  /** Counts a stream in. @returns the way to count it out @throws {TooMany} */
  stream(tokenId: string): () => void;
}

export function limits(): Limits {
  const uses = new Map<string, Use>();

  function useOf(tokenId: string): Use {
    const now = performance.now();
    let use = uses.get(tokenId);
    if (!use) {
      if (uses.size > 10_000) forgetIdle();
      uses.set(tokenId, use = { inFlight: 0, streams: 0, allowance: BURST, at: now });
    }
    use.allowance = Math.min(BURST, use.allowance + (now - use.at) / 1000 * RATE_PER_S);
    use.at = now;
    return use;
  }

  function spend(use: Use): void {
    if (use.allowance < 1) {
      throw tooMany(`This token sends more than ${RATE_PER_S} requests a second`);
    }
    use.allowance--;
  }

  function forgetIdle() {
    for (const [tokenId, use] of uses) {
      if (use.inFlight + use.streams === 0) uses.delete(tokenId);
    }
  }

  return {
    request(tokenId) {
      const use = useOf(tokenId);
      if (use.inFlight >= IN_FLIGHT_LIMIT) {
        throw tooMany(`More than ${IN_FLIGHT_LIMIT} requests of this token are under way`);
      }
      spend(use);
      use.inFlight++;
      return once(() => use.inFlight--);
    },
    stream(tokenId) {
      const use = useOf(tokenId);
      if (use.streams >= STREAMS_LIMIT) {
        throw tooMany(`This token has ${STREAMS_LIMIT} event streams open`);
      }
      spend(use);
      use.streams++;
      return once(() => use.streams--);
    },
  };
}

function once(act: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    act();
  };
}

function tooMany(message: string): TooMany {
  return new TooMany(`${message}. Send again after a second`, 1);
}
