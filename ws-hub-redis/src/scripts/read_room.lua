-- Reads the history of a room.
-- KEYS: room, history. ARGV: the place after which, or nothing for all; messages and bytes of the page.
-- Answers: top, its id, the number before the entries, 1 if nothing is missing before them, entries.
local log, place = KEYS[KEY + 1], ARGV[ARG]
local meta = call('GET', KEYS[KEY])
if not meta then return { 0, NOTHING, 0, place == '' and 1 or 0 } end
local user = { top = unpack('>I8', meta), id = sub(meta, 9, 16) }
local before = user.top - call('LLEN', log)
local after = 0
if place ~= '' then after = unpack('>I8', place) end
local is_whole = before == 0
if place ~= '' then is_whole = is_place(user, log, before, place) end
local out = { user.top, user.id, after, is_whole and 1 or 0 }
if is_whole and after < user.top then
  page(out, log, before, after, 16, tonumber(ARGV[ARG + 1]), tonumber(ARGV[ARG + 2]))
end
return out
