/**
 * The enrolment of this machine's toolbox where its DTMA is started by others, as in compose.yaml: its
 * single-use token is left in a file that the DTMA alone reads besides. Nobody has to carry it.
 */
import type { Database } from "./models/db.ts";
import { errorFields, type Log } from "./models/log.ts";
import { localToolboxState, putLocalToolbox } from "./models/toolboxes.ts";

const LOOK_EVERY_MS = 2000;
/** A token serves for 15 minutes: another is left well before. */
const RENEW_MS = 10 * 60_000;
/** A toolbox that was enrolled and is silent for so long has perhaps lost its directory. */
const LOST_MS = 3 * 60_000;

/** Keeps a token in `file` while the toolbox waits for its DTMA; ends when `signal` is aborted. */
export async function offerEnrolment(
  { db, file, log }: { db: Database; file: string; log: Log },
  signal: AbortSignal,
): Promise<void> {
  let offeredMs: number | null = null, heardMs = performance.now();
  while (!signal.aborted) {
    try {
      const state = await localToolboxState(db);
      const nowMs = performance.now();
      if (state === "heard") heardMs = nowMs;
      const wanted = state === "new" || (state === "silent" && nowMs - heardMs > LOST_MS);
      if (!wanted) {
        offeredMs = null;
        await Deno.remove(file).catch((error) => {
          if (!(error instanceof Deno.errors.NotFound)) throw error;
        });
      } else if (offeredMs === null || nowMs - offeredMs > RENEW_MS) {
        const { enrolmentToken } = await putLocalToolbox(db, { enrol: true });
        await Deno.writeTextFile(`${file}.new`, `${enrolmentToken}\n`, { mode: 0o600 });
        await Deno.rename(`${file}.new`, file);
        offeredMs = nowMs;
      }
    } catch (error) {
      log.error("The local toolbox's enrolment token could not be left", errorFields(error));
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LOOK_EVERY_MS);
      signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
  }
}
