/** Icons, drawn with lines on 24 by 24. They say nothing to a screen reader: what holds them has a name. */
const PATHS = {
  paint: "M4 20c4 0 5-2 5-4a3 3 0 0 0-6 0c0 2-1 3-1 3M9 14 20 3l1 1-11 11",
  canvas: "M4 6V4h2M18 4h2v2M20 18v2h-2M6 20H4v-2M4 10v4M20 10v4M10 4h4M10 20h4",
  gallery: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  queue: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  teach: "M3 9l9-5 9 5-9 5zM7 12v5c3 2 7 2 10 0v-5M21 9v6",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  settings: "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12l5 5 9-10",
  down: "M6 9l6 6 6-6",
  right: "M9 6l6 6-6 6",
  left: "M15 6l-6 6 6 6",
  reset: "M4 12a8 8 0 1 0 3-6L4 8M4 3v5h5",
  dice: "M4 4h16v16H4zM8.5 8.5h.01M15.5 15.5h.01M12 12h.01M15.5 8.5h.01M8.5 15.5h.01",
  star: "M12 3l2.7 5.8 6.3.8-4.6 4.4 1.2 6.2L12 17l-5.6 3.2 1.2-6.2L3 9.6l6.3-.8z",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  stop: "M6 6h12v12H6z",
  sliders: "M4 7h10M18 7h2M4 17h4M12 17h8M16 5v4M10 15v4",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5M12 8h.01",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 21 21",
  undo: "M8 5 4 9l4 4M4 9h9a6 6 0 0 1 0 12h-3",
  redo: "M16 5l4 4-4 4M20 9h-9a6 6 0 0 0 0 12h3",
  vary: "M4 7h4l8 10h4M4 17h4l2-2.5M14 9.500 16 7h4M18 4l3 3-3 3M18 14l3 3-3 3",
  grid: "M4 4h16v16H4zM4 10h16M4 15h16M10 4v16M15 4v16",
  brush: "M4 20c3 0 5-1 5-3.500a2.500 2.500 0 0 0-5 0c0 1.500-1 2-1 2M8.500 14.500 19 4l1.500 1.500L10 16",
  lasso: "M12 4c5 0 8 2.500 8 6s-3 6-8 6c-1 0-2 0-3-.3M4 10c0-3.500 3-6 8-6M4 10c0 3 2 5 5 5.700M9 16a2 2 0 1 1-3 1.700c0-1 1-1.700 1-1.700s2 2 0 5",
  hand: "M8 12V6a1.500 1.500 0 0 1 3 0v5M11 11V4.500a1.500 1.500 0 0 1 3 0V11M14 11V6a1.500 1.500 0 0 1 3 0v8a6 6 0 0 1-6 6c-3 0-4-1-6-5l-1-2c1-1.500 2.500-1 3.500.5L8 15",
  eraser: "M9 20h11M5 15 14 6l5 5-8 8H8z",
  layers: "M12 4l9 5-9 5-9-5zM3 14l9 5 9-5",
  frame: "M7 3v18M17 3v18M3 7h18M3 17h18",
  eye: "M2 12c3-5 6-7 10-7s7 2 10 7c-3 5-6 7-10 7s-7-2-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  upload: "M12 16V5M7 9l5-5 5 5M4 20h16",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500 19 19M19 5l-1.500 1.500M6.500 17.500 5 19",
  compare: "M12 3v18M4 6h5v12H4M15 6h5v12h-5",
  up: "M6 15l6-6 6 6",
  play: "M7 5l12 7-12 7z",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3 2",
  face: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9 10h.01M15 10h.01M8.500 14.500c2 2 5 2 7 0",
  move: "M12 3v18M3 12h18M12 3l-2.500 2.500M12 3l2.500 2.500M12 21l-2.500-2.500M12 21l2.500-2.500M3 12l2.500-2.500M3 12l2.500 2.500M21 12l-2.500-2.500M21 12l-2.500 2.500",
  regions: "M4 5h7v14H4zM13 5h7v8h-7zM13 16h7v3h-7z",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, filled = false }: { name: IconName; filled?: boolean }) {
  return (
    <svg className={filled ? "icon icon-filled" : "icon"} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
