import type { Child } from "hono/jsx";
import { definitionText, Difference } from "./difference.tsx";
import { Picked, Sending } from "./form.tsx";
import { count } from "./parts.tsx";
import { visibleText } from "./visible_text.ts";

/** What a definition's state is called, and its sign. */
const STATES = {
  waiting: { name: "Waits for approval", sign: "○" },
  approved: { name: "Approved", sign: "✓" },
  changed: { name: "Changed: withheld", sign: "▲" },
  gone: { name: "No longer listed", sign: "◌" },
};

/** What a server lists and agents get only as a person approved it: a tool, a prompt, a text. */
interface Pin {
  hash: string;
  state: keyof typeof STATES;
  definition: Record<string, unknown>;
  approvedDefinition: Record<string, unknown> | null;
  approvedHash: string | null;
}

/** Inside of a form: what approves, around the list of what is approved. */
export function Approvals<P extends Pin>(
  { id, pins, pickOf, waits, settled, children }: {
    /** Of its own among all of the page. */
    id: string;
    pins: P[];
    /** What stands for exactly this definition in the form. */
    pickOf: (pin: P) => string;
    /** Said of those that wait. */
    waits: (count: number) => Child;
    /** Said when none waits. */
    settled: string;
    children?: Child;
  },
) {
  const open = pins.filter(({ state }) => state === "waiting" || state === "changed");
  return (
    <>
      {open.length > 0
        ? (
          // A live update keeps it as it was when the page was made. A server that changes a definition
          // while it is read would else have the new one under the button, unread, at the click.
          <div class="notice" id={id} hx-preserve>
            <p>{waits(open.length)}</p>
            <Sending>
              {open.map((pin) => <input type="hidden" name="waiting" value={pickOf(pin)} />)}
              <p class="acts">
                <button name="act" value="approve-all">
                  {open.length === 1 ? "Approve it" : `Approve all ${open.length}`}
                </button>
                <button name="act" value="approve" class="quiet">Approve selected</button>
              </p>
            </Sending>
          </div>
        )
        : <p class="help">{settled}</p>}
      {children}
      {pins.some(({ approvedHash }) => approvedHash) && (
        <Sending>
          <p class="acts">
            <button name="act" value="withdraw" class="quiet">
              Withdraw approval of selected
            </button>
          </p>
        </Sending>
      )}
    </>
  );
}

/** One of the list, with the box that picks it. */
export function PinRow(
  { pin: { state, approvedHash }, id, pick, label, aside, children }: {
    pin: Pin;
    id: string;
    pick: string;
    label: Child;
    aside?: Child;
    children?: Child;
  },
) {
  const { name, sign } = STATES[state];
  return (
    <li class={`tool ${state}`}>
      <div class="tool-head">
        <Picked id={id} label={label}>
          <input
            type="checkbox"
            id={id}
            name="pick"
            value={pick}
            disabled={state === "gone" && !approvedHash}
          />
        </Picked>
        <span class={`status ${state}`}>
          <span aria-hidden="true">{sign}</span> {name}
        </span>
        {aside}
      </div>
      {children}
    </li>
  );
}

/** The difference to what was approved, where there is one; else `children`. */
export function Pinned(
  { pin: { state, definition, approvedDefinition }, seen = (of) => of, children }: {
    pin: Pin;
    /** What is looked at of a definition. */
    seen?: (definition: Record<string, unknown>) => unknown;
    children?: Child;
  },
) {
  return state === "changed" && approvedDefinition
    ? <Difference approved={seen(approvedDefinition)} now={seen(definition)} />
    : <>{children}</>;
}

/** More of it is said to be there. */
const DESCRIPTION_CHARS = 4000;

/** What a definition says of itself, and all of it behind a click. */
export function Described(
  { definition, children }: { definition: Record<string, unknown>; children?: Child },
) {
  const { description } = definition;
  const said = typeof description === "string" ? visibleText(description) : "";
  const more = said.length - DESCRIPTION_CHARS;
  return (
    <>
      <p class="description">
        {said.trim() ? said.slice(0, DESCRIPTION_CHARS) : "It does not describe itself."}
      </p>
      {more > 0 && (
        <p class="help">It goes on for {count(more, "more character")}: open its definition.</p>
      )}
      {children}
      <details>
        <summary>Definition</summary>
        <pre tabindex={0}>{definitionText(definition)}</pre>
      </details>
    </>
  );
}
