import { type KeyboardEvent, type PointerEvent, type RefObject, useEffect, useId, useLayoutEffect, useRef } from "react";

import { fill } from "../../i18n";
import { look } from "./actions";
import { type Screen, run } from "./commands";
import { type Box, moved, type Point, toCanvas, zoomed } from "./geometry";
import { type Gesture, press } from "./gestures";
import { commandOf } from "./keys";
import { now, set, type Tool, useCanvas, useDocument } from "./store";
import { Scene } from "./scene";
import { useOwnText } from "./text";

const LINE = 16;
const WHEEL = 0.0015;
const MIDDLE_BUTTON = 1;

/** The part of the canvas that is seen: drawn by Konva; pointers and keys are read here. */
export function Board({ screen }: { screen: Screen }) {
  const text = useOwnText();
  const place = useRef<HTMLDivElement>(null);
  const tool = useCanvas((one) => (one.panning ? "hand" : one.tool));
  const { frame } = useDocument();
  useWindowSize(place);
  useWheel(place);
  useGround(place);
  const pointers = usePointers(tool);
  const help = useId();
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- an application takes keys and pointers.
    <div
      ref={place}
      className={`board board-${tool}`}
      role="application"
      aria-label={text.board}
      aria-describedby={help}
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- the same.
      tabIndex={0}
      onKeyDown={(event) => key(event, screen)}
      onKeyUp={(event) => event.key === " " && set({ panning: false })}
      onBlur={() => set({ panning: false })}
      {...pointers}
    >
      <p id={help} className="visually-hidden">
        {text.boardHelp} {said(text.frameAt, frame)}
      </p>
      <Scene />
    </div>
  );
}

function said(text: string, { x, y, width, height }: Box): string {
  return fill(text, { x, y, width, height });
}

function key(event: KeyboardEvent, screen: Screen): void {
  const command = commandOf({ key: event.key, ctrl: event.ctrlKey || event.metaKey, shift: event.shiftKey, alt: event.altKey });
  if (command === null) return;
  event.preventDefault();
  run(command, screen);
}

/** Follows the size of the window on the canvas; what is in it is looked at when it first has one. */
function useWindowSize(place: RefObject<HTMLDivElement | null>): void {
  const id = useCanvas((one) => one.id);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      const first = now().window.width === 0;
      set({ window: { width: element.clientWidth, height: element.clientHeight } });
      if (first) look("all");
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      set({ window: { width: 0, height: 0 } });
    };
  }, [place]);
  useEffect(() => look("all"), [id]);
}

const DOTS = 24;

/** The dots of the ground go with the view; their distance stays about the same to the eye. */
function useGround(place: RefObject<HTMLDivElement | null>): void {
  const { x, y, scale } = useCanvas((one) => one.view);
  useLayoutEffect(() => {
    const gap = DOTS * scale * 2 ** -Math.round(Math.log2(scale));
    place.current?.style.setProperty("background-size", `${gap}px ${gap}px`);
    place.current?.style.setProperty("background-position", `${x - gap / 2}px ${y - gap / 2}px`);
  }, [place, x, y, scale]);
}

/** The wheel zooms where the pointer is; with Shift, and on a trackpad, it moves the view. */
function useWheel(place: RefObject<HTMLDivElement | null>): void {
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const turn = (event: WheelEvent) => {
      event.preventDefault();
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1;
      const [x, y] = [event.deltaX * unit, event.deltaY * unit];
      const { view } = now();
      if (event.shiftKey || (x !== 0 && !event.ctrlKey)) set({ view: moved(view, -x, -y) });
      else set({ view: zoomed(view, Math.exp(-y * WHEEL * (event.ctrlKey ? LINE / 2 : 1)), at(event, element)) });
    };
    element.addEventListener("wheel", turn, { passive: false });
    return () => element.removeEventListener("wheel", turn);
  }, [place]);
}

function at(event: { clientX: number; clientY: number }, element: Element): Point {
  const { left, top } = element.getBoundingClientRect();
  return { x: event.clientX - left, y: event.clientY - top };
}

/** One pointer does what the tool does; two move and zoom the view. */
function usePointers(tool: Tool) {
  const fingers = useRef(new Map<number, Point>());
  const gesture = useRef<Gesture | null>(null);
  const begin = (event: PointerEvent<HTMLDivElement>) => {
    const point = at(event, event.currentTarget);
    event.currentTarget.focus();
    event.currentTarget.setPointerCapture(event.pointerId);
    fingers.current.set(event.pointerId, point);
    if (fingers.current.size > 1) {
      gesture.current = null;
      set({ draft: null });
    } else gesture.current = press(event.button === MIDDLE_BUTTON ? "hand" : tool, point);
  };
  const move = (event: PointerEvent<HTMLDivElement>) => {
    const point = at(event, event.currentTarget);
    const inside = toCanvas(now().view, point);
    set({ cursor: inside });
    const known = fingers.current.get(event.pointerId);
    if (known === undefined) return;
    if (fingers.current.size > 1) pinch(fingers.current, event.pointerId, point);
    else if (gesture.current !== null) followed(event, gesture.current);
    fingers.current.set(event.pointerId, point);
  };
  const end = (event: PointerEvent<HTMLDivElement>) => {
    if (!fingers.current.delete(event.pointerId)) return;
    gesture.current?.end();
    gesture.current = null;
  };
  const leave = () => fingers.current.size === 0 && !now().down && set({ cursor: null });
  return { onPointerDown: begin, onPointerMove: move, onPointerUp: end, onPointerCancel: end, onPointerLeave: leave };
}

/** All places that the pointer was at since the last event: fast lines stay round. */
function followed(event: PointerEvent<HTMLDivElement>, gesture: Gesture): void {
  const all = event.nativeEvent.getCoalescedEvents();
  for (const one of all.length > 0 ? all : [event.nativeEvent]) {
    const point = at(one, event.currentTarget);
    gesture.to(toCanvas(now().view, point), point);
  }
}

function pinch(fingers: ReadonlyMap<number, Point>, id: number, to: Point): void {
  const from = fingers.get(id);
  const other = [...fingers].find(([one]) => one !== id)?.[1];
  if (from === undefined || other === undefined) return;
  const factor = Math.hypot(to.x - other.x, to.y - other.y) / Math.max(Math.hypot(from.x - other.x, from.y - other.y), 1);
  const middle = { x: (to.x + other.x) / 2, y: (to.y + other.y) / 2 };
  const shifted = moved(now().view, (to.x - from.x) / 2, (to.y - from.y) / 2);
  set({ view: zoomed(shifted, factor, middle) });
}
