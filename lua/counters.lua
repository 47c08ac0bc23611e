-- counters: the live numbers of an event. Changes nothing.
--
-- KEYS
--   1 event
--   2 line
--   3 parked
--   4 active
-- ARGV
--   1 now: microseconds, or "" for the store's clock
-- REPLY
--   0, state (1 lobby 2 open 3 paused 4 closed), waiting, active, admitted ever, left, parked,
--   version, numbers left, numbers past, when the recovery ends (0: there was none), at
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   reads

local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end
return put_counters({ 0 }, event, KEYS[2], KEYS[3], KEYS[4], clock(ARGV[1]))
