-- remove: forgets an event. Memory is freed in the background.
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
--   6 ended
--   7 zones
--   8 holds
--   9 due
--   10 buyers
--   11 feed
--   12 parked
--   13 seen0
--   14 seen1
-- ARGV
--   none
-- REPLY
--   0, keys that there were
-- ERRORS
--   none
-- WHEN FULL
--   runs: it frees

return { 0, redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9],
  KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]) }
