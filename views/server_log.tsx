import type { Server } from "../models/servers.ts";
import { Empty } from "./parts.tsx";
import { tabPath } from "./server.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Lines that the page shows; the whole is there to download. */
const LINES_SHOWN = 2000;

export interface LogTabProps {
  server: Server;
  /** Out of the whole log, which its toolbox keeps; null: its end is shown, as it is written. */
  found: { text: string } | { trouble: string } | null;
  search: string;
}

/** The tab: what a server writes, as it comes, and all of it that its toolbox keeps, with a search. */
export function LogTab({ server, found, search }: LogTabProps) {
  const url = useUrl();
  const path = url(tabPath(server.id, "log"));
  return (
    <>
      <div class="head">
        <form class="search" role="search" action={path}>
          <input
            type="search"
            name="search"
            value={search}
            aria-label="Words to look for in the whole log"
            placeholder="Words to look for"
          />
          <button class="quiet">Search</button>
        </form>
        <p class="acts">
          {found === null
            ? <a class="button quiet" href={`${path}?all`}>Whole log</a>
            : <a class="button quiet" href={path}>Follow it</a>}
          <a class="button quiet" href={`${path}?download`} download>Download</a>
        </p>
      </div>
      {found === null ? <ServerLog server={server} isWhole /> : "trouble" in found
        ? (
          <>
            <p class="notice bad">{found.trouble}</p>
            <ServerLog server={server} isWhole />
          </>
        )
        : <Lines lines={found.text.split("\n").filter(Boolean)} isSearched={search !== ""} />}
    </>
  );
}

function Lines({ lines, isSearched }: { lines: string[]; isSearched: boolean }) {
  if (lines.length === 0) {
    return (
      <Empty title={isSearched ? "No line has these words" : "Nothing was written yet"}>
        <p>
          What a server writes to its standard error, and what its build prints, is kept here: the
          last 2 MiB of it.
        </p>
      </Empty>
    );
  }
  return (
    <>
      {lines.length > LINES_SHOWN && (
        <p class="help">The last {LINES_SHOWN} of {lines.length} lines.</p>
      )}
      <pre class="log whole" tabindex={0} data-follow>
        <code>{visibleText(lines.slice(-LINES_SHOWN).join("\n"))}</code>
      </pre>
    </>
  );
}

/** The end of the log as the app has it; follows changes live. */
export function ServerLog({ server, isWhole = false }: { server: Server; isWhole?: boolean }) {
  const { entry, options } = server.config;
  const isOnStdio = (options.transport ?? entry.transport).type === "stdio";
  const url = useUrl();
  return (
    <section class="card" id="log" aria-labelledby="log-title">
      <h2 id="log-title">{isWhole ? "Its end, as it is written" : "Log"}</h2>
      {server.logTail.length === 0
        ? (
          <p class="help">
            Nothing was written yet: neither by the build nor by the server to its standard{" "}
            {isOnStdio ? "error" : "output or error"}.
          </p>
        )
        : (
          <pre
            class={isWhole ? "log tall" : "log"}
            tabindex={0}
            data-follow
          ><code>{visibleText(server.logTail.join("\n"))}</code></pre>
        )}
      {!isWhole && (
        <p>
          <a href={url(tabPath(server.id, "log"))}>Whole log, with search</a>
        </p>
      )}
    </section>
  );
}
