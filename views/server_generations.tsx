import type { Generation, WayBack } from "../models/generations.ts";
import type { Change } from "../models/server_changes.ts";
import type { Server } from "../models/servers.ts";
import { Form } from "./form.tsx";
import { Time } from "./parts.tsx";
import { tabPath } from "./server.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Where one generation is shown, and gone back to. */
export function generationPath(serverId: string, generation: number): string {
  return `/servers/${serverId}/generations/${generation}`;
}

export interface GenerationsProps {
  server: Server;
  generations: Generation[];
  /** The generation from which on the next page is; null: there is none. */
  older: number | null;
}

/** Every generation: who made it, when and why, what it changed, and the way back to it. */
export function Generations({ server, generations, older }: GenerationsProps) {
  const url = useUrl();
  const isFirst = generations[0]?.generation === server.generation;
  const path = url(tabPath(server.id, "configuration"));
  return (
    <section class="card" id="generations" aria-labelledby="generations-title">
      <h2 id="generations-title">{isFirst ? "Generations" : "Earlier generations"}</h2>
      <ol class="generations">
        {generations.map((row) => (
          <li id={`generation-${row.generation}`}>
            <p>
              <a href={url(generationPath(server.id, row.generation))}>
                Generation {row.generation}
              </a>{" "}
              {row.generation === server.generation && <span class="badge">now</span>}{" "}
              <Made of={row} />
            </p>
            {row.failure && <Failure reason={row.failure} log={row.failureLog} />}
            <Changes changes={row.changes} />
            {row.generation < server.generation && !server.removedAt &&
              row.lostSecrets.length === 0 && (
              <a
                class="button quiet small"
                href={url(`${generationPath(server.id, row.generation)}#back`)}
                aria-label={`Go back to generation ${row.generation}…`}
              >
                Go back to it…
              </a>
            )}
          </li>
        ))}
      </ol>
      {(older !== null || !isFirst) && (
        <nav class="pages" aria-label="Pages of generations">
          {isFirst ? <span></span> : <a href={path}>Newest generations</a>}
          {older !== null && (
            <a href={`${path}?before=${older}#generations`} rel="next">Earlier generations</a>
          )}
        </nav>
      )}
    </section>
  );
}

/** Why something did not get ready, with the last that it wrote. */
export function Failure({ reason, log }: { reason: string | null; log: string[] }) {
  return (
    <>
      <p class="why">{visibleText(reason ?? "Its toolbox did not say why")}</p>
      {log.length > 0 && (
        <details>
          <summary>What it wrote last</summary>
          <pre class="log" tabindex={0} data-follow><code>{visibleText(log.join("\n"))}</code></pre>
        </details>
      )}
    </>
  );
}

/** One generation, with what going back to it would change now, which is asked here. */
export function GenerationPage({ server, row }: { server: Server; row: WayBack }) {
  const url = useUrl();
  return (
    <div class="columns">
      <section class="card" aria-labelledby="generation-title">
        <h2 id="generation-title">Generation {row.generation}</h2>
        <p>
          <Made of={row} />
        </p>
        <h3>What it changed</h3>
        {row.generation === 1
          ? <p>It is the first: how the server was deployed.</p>
          : row.changes.length === 0
          ? <p>Nothing: the same settings were tried anew.</p>
          : <Changes changes={row.changes} />}
        <p class="acts">
          {row.generation > 1 && (
            <a href={url(generationPath(server.id, row.generation - 1))}>
              Generation {row.generation - 1}
            </a>
          )}
          {row.generation < server.generation && (
            <a href={url(generationPath(server.id, row.generation + 1))}>
              Generation {row.generation + 1}
            </a>
          )}
        </p>
      </section>
      <Back server={server} row={row} />
    </div>
  );
}

function Back({ server, row }: { server: Server; row: WayBack }) {
  const url = useUrl();
  if (row.generation === server.generation) {
    return (
      <section class="card" id="back" aria-labelledby="back-title">
        <h2 id="back-title">These are the server's settings now</h2>
        <p>
          <a href={url(tabPath(server.id, "configuration"))}>Change them</a>.
        </p>
      </section>
    );
  }
  return (
    <section class="card" id="back" aria-labelledby="back-title">
      <h2 id="back-title">Go back to it?</h2>
      {row.changesNow.length === 0
        ? <p>Its settings are the ones of now: going back changes nothing, and starts it anew.</p>
        : (
          <>
            <p>From the settings of now (generation {server.generation}) this would change:</p>
            <Changes changes={row.changesNow} />
          </>
        )}
      {row.lostSecrets.length > 0
        ? (
          <p class="notice">
            There is no way back: what it had as {row.lostSecrets.map(visibleText).join(", ")}{" "}
            is kept for twenty generations, and gone. Give the server its settings, and the secret,
            in its <a href={url(tabPath(server.id, "configuration"))}>configuration</a>.
          </p>
        )
        : (
          <>
            <p class="help">
              It is made the next generation. What runs now goes on serving until that is ready, and
              stays if it is not.{" "}
              {row.readyAt === null && "This one never got ready, so it may not now either."}
            </p>
            {server.removedAt === null && (
              <Form action={url(`/servers/${server.id}/rollback`)}>
                <input type="hidden" name="generation" value={String(row.generation)} />
                <p class="acts">
                  <button>Go back to generation {row.generation}</button>
                  <a class="button quiet" href={url(tabPath(server.id, "configuration"))}>
                    Stay
                  </a>
                </p>
              </Form>
            )}
          </>
        )}
    </section>
  );
}

/** Who made it, when and why. */
function Made({ of: row }: { of: Generation }) {
  return (
    <>
      {visibleText(row.reason ?? "")}{" "}
      <small>
        {row.createdByName ? `by ${row.createdByName}` : row.rolledBackTo ? "by Mooring" : ""}{" "}
        <Time at={row.createdAt} relative />
        {!row.readyAt && ", never ready"}
      </small>
    </>
  );
}

/** In words, which a screen reader says as they are: it is silent about what is struck out. */
function Changes({ changes }: { changes: Change[] }) {
  if (changes.length === 0) return null;
  return (
    <ul class="diff">
      {changes.map(({ name, before, after }) => (
        <li>
          {visibleText(name)}: {before !== null && (
            <>
              {after !== null && "from "}
              <del>{visibleText(before)}</del>
            </>
          )}
          {before !== null && after !== null ? " to " : ""}
          {after !== null && <ins>{visibleText(after)}</ins>}
          {after === null && " no more"}
        </li>
      ))}
    </ul>
  );
}
