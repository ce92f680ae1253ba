import encodeQR from "qr";

/** Modules of empty margin around a code, as ISO/IEC 18004 asks for. */
const MARGIN = 4;

/** A text as a QR code, drawn as one path. */
export function QrCode({ text, label }: { text: string; label: string }) {
  const rows = encodeQR(text, "raw", { border: MARGIN, ecc: "medium" });
  const dark = rows.flatMap((row, y) => row.map((isDark, x) => isDark ? `M${x} ${y}h1v1h-1z` : ""));
  return (
    <svg
      class="qr"
      role="img"
      aria-label={label}
      viewBox={`0 0 ${rows.length} ${rows.length}`}
      shape-rendering="crispEdges"
    >
      <path fill="#000" d={dark.join("")} />
    </svg>
  );
}
