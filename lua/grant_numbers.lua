-- grant_numbers: adds a block of numbers, to be used up after the one in use.
--
-- Ignored: a block while there is a spare one, and a block that does not lie beyond every number known so far (so that
-- a late answer can never bring a number back). Numbers below the floor are left out.
--
-- KEYS
--   1 event
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 run: that of the server, as the caller was told
--   3 recovery: microseconds for which nobody is let in if numbers were handed out by another store
--   4 start: the first number
--   5 end: one past the last
-- REPLY
--   0, numbers left, numbers past
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   runs: a change of rules comes with it. It writes the fields of one hash

local event = load_trusted(KEYS[1], ARGV[2])
if not event then return { UNKNOWN_EVENT } end

local first, past = tonumber(ARGV[4]), tonumber(ARGV[5])
local start = math.max(first, event.floor)
if event.spare_end == 0 and first > 0 and first >= event['end'] and start < past then
  if event.next < event['end'] then
    event.spare, event.spare_end = start, past
  else
    event.next, event['end'] = start, past
  end
  save_numbers(KEYS[1], event)
  if event.unsure == 1 then
    local lost = first > math.max(1, event.floor)
    local resume_at = lost and clock(ARGV[1]) + tonumber(ARGV[3]) or 0
    redis.call('HSET', KEYS[1], 'unsure', '0', 'lost_to', whole(first), 'resume_at', whole(resume_at))
  end
end
return { 0, numbers_left(event), numbers_past(event) }
