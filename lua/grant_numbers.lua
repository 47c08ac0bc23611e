-- grant_numbers: adds a block of numbers, to be used up after the one in use.
--
-- Ignored: a block while there is a spare one, and a block that does not lie beyond every number known so far (so that
-- a late answer can never bring a number back). Numbers below the floor are left out.
--
-- KEYS
--   1 event
-- ARGV
--   1 start: the first number
--   2 end: one past the last
-- REPLY
--   0, numbers left
-- ERRORS
--   -1 the event is not known

local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end

local first, past = tonumber(ARGV[1]), tonumber(ARGV[2])
local start = math.max(first, event.floor)
if event.spare_end == 0 and first > 0 and first >= event['end'] and start < past then
  if event.next < event['end'] then
    event.spare, event.spare_end = start, past
  else
    event.next, event['end'] = start, past
  end
  save_numbers(KEYS[1], event)
end
return { 0, numbers_left(event) }
