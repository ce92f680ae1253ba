import type { Toolbox } from "../models/toolboxes.ts";
import { duration } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** How far a toolbox's clock is from Mooring's, in words. */
export function clockWords(offsetMs: number): string {
  if (Math.abs(offsetMs) < 1000) return "Agrees with Mooring's to a second";
  return `${duration(Math.abs(offsetMs))} ${offsetMs > 0 ? "ahead of" : "behind"} Mooring's`;
}

/** On a toolbox's page, where its clock is or was so wrong that signatures are refused before long. */
export function ClockNotice({ box }: { box: Toolbox }) {
  if (!isWarned(box)) return null;
  return (
    <div class="notice bad">
      <p>
        <strong>The clocks differ.</strong> {visibleText(box.facts!.clockWarning!)}.
      </p>
      <WhatToDo />
    </div>
  );
}

/** Once over the list of toolboxes: whose clocks are wrong, and what to do. */
export function ClocksNotice({ toolboxes }: { toolboxes: Toolbox[] }) {
  const url = useUrl();
  const warned = toolboxes.filter(isWarned);
  if (warned.length === 0) return null;
  return (
    <div class="notice bad">
      <p>
        <strong>Clocks differ:</strong> {warned.map((box, index) => (
          <>
            {index > 0 && ", "}
            <a href={url(`/toolboxes/${box.id}`)}>{box.name}</a>
            {box.facts!.clockOffsetMs != null &&
              ` (${lowerFirst(clockWords(box.facts!.clockOffsetMs))})`}
          </>
        ))}. Before long Mooring and a toolbox refuse each other's signatures.
      </p>
      <WhatToDo />
    </div>
  );
}

function WhatToDo() {
  return (
    <p>
      What to do: let both machines set their clocks by NTP (with systemd:{" "}
      <code>timedatectl set-ntp true</code>). This goes by itself once the clocks agree.
    </p>
  );
}

/** A revoked one is not spoken with any more, whatever its clock says. */
function isWarned({ facts, revokedAt }: Toolbox): boolean {
  return Boolean(facts?.clockWarning) && !revokedAt;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
