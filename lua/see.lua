-- see: takes in which holders of numbers were seen. Where the rules ask for no presence it does nothing.
--
-- KEYS
--   1 event
--   2 seen0
--   3 seen1
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 lasted: microseconds for which this was gathered
--   3.. block (numbers divided by 4,096), and its bits: 512 bytes, the lowest bit first
-- REPLY
--   0
-- ERRORS
--   -1 the event is not known
--   -2 a block without bits, or with too many or too few
-- WHEN FULL
--   tries: nobody is passed over where nobody tells who was seen

local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end
for i = 3, #ARGV, 2 do
  if #(ARGV[i + 1] or '') ~= 512 then return { BAD_ARGUMENTS } end
end
if (event.presence or 0) == 0 then return { 0 } end

local now, windows = clock(ARGV[1]), { KEYS[2], KEYS[3] }
local told = event.seen_at or 0
local since = told > 0 and now - told <= event.presence / 2 and event.seen_since or now
redis.call('HSET', KEYS[1], 'seen_at', whole(now), 'seen_since', whole(since))
local window = window_at(event, now - tonumber(ARGV[2]))
local key = windows[window % 2 + 1]
if #ARGV > 2 and open_window(key, window) then
  for i = 3, #ARGV, 2 do see_block(key, ARGV[i], ARGV[i + 1]) end
end
return { 0 }
