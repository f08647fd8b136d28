--[[
rspamd_llm.lua: turns the signed verdict of the rspamd-llm daemon into Rspamd symbols.

Copyright (C) the rspamd-llm authors
SPDX-License-Identifier: GPL-3.0-or-later

Where things go (below /etc/rspamd):
  rspamd_llm.lua      -> plugins.d/rspamd_llm.lua
  rspamd.conf.local   -> append its section to rspamd.conf.local; without it this is not loaded
  groups.conf         -> append its group to local.d/groups.conf; the points live there

The daemon is a milter that runs before Rspamd and adds one header:
  X-GPT-Verdict: v=1; st=scored; q=QUEUEID; t=UNIXTIME; s=0.97; c=phishing; k=KEYID; m=HMAC
Anybody can write such a header into a mail, and while the daemon is down nobody removes it.
So a verdict counts only if it stands alone, has exactly this form, is signed with a key we
know, and was made for this very message (its queue ID) and just now. All else is LLM_FORGED,
which is worth no points: a forger must gain nothing, and lose nothing for others.

What may not live here: the network, points (they belong to the group), and any use of the
mail but this one header. Works on Rspamd 3.4 to 4.1.
]]

if confighelp then -- rspamadm confighelp loads plugins without a configuration
  return
end

local rspamd_logger = require 'rspamd_logger'
local rspamd_util = require 'rspamd_util'
local hash = require 'rspamd_cryptobox_hash'

-- That of the daemon it came with; `rspamd-llm check` reads it here. One apart, they work together.
local VERSION = '0.1.0'

local N = 'rspamd_llm'
local HEADER = 'X-GPT-Verdict'
local MAX_AGE = 900 -- seconds, either way: longer than any milter's deadline plus clock error

local settings = {
  key_file = '/etc/rspamd-llm/verdict.key',
  spam_at_least = 0.75,
  ham_at_most = 0.25,
  categories = { 'phishing', 'scam', 'malware', 'marketing' },
  observe = false,
}

-- Symbols that say how a message fared. Category symbols come from the configuration.
local OUTCOMES = {
  'LLM_SPAM', 'LLM_HAM', 'LLM_UNCERTAIN',
  'LLM_SKIPPED', 'LLM_UNSCORED', 'LLM_ABSENT', 'LLM_FORGED',
}
local CHECK = 'LLM_CHECK'
local CLEAN = 'LLM_CLEAN'
local ASKED = 'LLM_ASKED'
local ASIDE = 'LLM_ASIDE'
local QUESTION = 'X-GPT-Question' -- a header of the scan's request, not of the mail
local OBSERVED = 'LLM_OBSERVED' -- only while observing; its option is the points in sum

-- The words that Rspamd's configuration takes for a boolean, here also in quotes.
local SWITCH = {
  ['true'] = true, yes = true, on = true, ['false'] = false, no = false, off = false,
}

local keys = {} -- key ID -> the 32 bytes of the key
local category_symbols = {} -- category -> symbol

----------------------------------------------------------------------------------------------
-- Keys
----------------------------------------------------------------------------------------------

local function hmac(key, text)
  -- With an empty key this function silently becomes plain SHA-256, which anybody can compute.
  assert(#key >= 32, 'key too short')
  return hash.create_specific_keyed(key, 'sha256', text):hex()
end

-- Equality that takes as long for a near miss as for a far one: what is compared are MACs
-- under a key that the sender lacks, so that the time taken says nothing about the strings.
local function same_secret(key, a, b)
  return hmac(key, a) == hmac(key, b)
end

local function key_id(key)
  return hash.create_specific('sha256', key):hex():sub(1, 8)
end

local function from_hex(text)
  return (text:gsub('%x%x', function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

-- Returns the keys of a key file, or nil and what is wrong with it.
local function parse_keys(text)
  local found, number = {}, 0
  for line in (text .. '\n'):gmatch('(.-)\r?\n') do
    number = number + 1
    local word = line:match('^%s*(.-)%s*$')
    if word ~= '' and word:sub(1, 1) ~= '#' then
      if #word ~= 64 or word:find('%X') then
        return nil, string.format('line %d is not 64 hexadecimal digits', number)
      end
      local key = from_hex(word)
      found[key_id(key)] = key
    end
  end
  if not next(found) then
    return nil, 'it holds no key'
  end
  return found
end

-- Called when Rspamd has read the key file, at start and after each change. A file with any
-- fault is refused as a whole: half a rotation is worse than none.
local function load_keys(text)
  local found, fault = parse_keys(tostring(text))
  if found then
    keys = found
    rspamd_logger.infox(rspamd_config, '%s: read the keys in %s', N, settings.key_file)
  else
    rspamd_logger.errx(rspamd_config, '%s: key file %s refused: %s; %s', N, settings.key_file,
        fault, next(keys) and 'the keys read before stay' or 'no verdict will be used')
  end
end

-- Runs in each worker, under Rspamd's own user. The keys may well have been read before, by
-- the main process as root: then a new key would go unnoticed, and only this tells in time.
local function complain_about_key_file(_, _, worker)
  if not worker:is_scanner() then
    return
  end
  if not next(keys) then
    rspamd_logger.errx(rspamd_config, '%s: no valid key in %s: every verdict will count as ' ..
        'LLM_FORGED (key)', N, settings.key_file)
  end
  local file = io.open(settings.key_file, 'r')
  if file then
    file:close()
  else
    rspamd_logger.errx(rspamd_config, '%s: Rspamd\'s user cannot read %s: a change of keys ' ..
        'will go unnoticed. Let its group read the file', N, settings.key_file)
  end
end

----------------------------------------------------------------------------------------------
-- The verdict
----------------------------------------------------------------------------------------------

local FORM = '^(v=1; st=(%l+); q=([^;%s%c]+); t=(%d+); s=([%d.-]+); c=([%l%d_-]+); ' ..
    'k=(%x+)); m=(%x+)$'
local STATES = { scored = true, skipped = true, unscored = true }

local function is_score(text)
  return text:find('^0%.%d%d$') or text == '1.00'
end

local function is_lower_hex(text, length)
  return #text == length and not text:find('%u')
end

-- Reads the header line as it stands in the mail. The value Rspamd offers is no use here: it
-- is unfolded and stripped already, and an exact form must not be mended before it is checked.
local function parse(raw)
  local line = raw:gsub('\r?\n$', '')
  local body = line:match('^[^:]+: ?(.*)$')
  if not body then
    return nil
  end
  local signed, state, queue_id, time, score, code, kid, mac = body:match(FORM)
  if not signed then
    return nil
  end
  local well_formed = STATES[state]
      and #time <= 12
      and (state == 'scored') == (score ~= '-')
      and (score == '-' or is_score(score))
      and code:find('^%l') and #code <= 32
      and is_lower_hex(kid, 8) and is_lower_hex(mac, 64)
  if not well_formed then
    return nil
  end
  return {
    signed = signed, state = state, queue_id = queue_id, time = tonumber(time),
    score = score, code = code, key_id = kid, mac = mac,
  }
end

-- Returns the verdict of a message, or nil and why there is none to use.
local function genuine_verdict(task, headers)
  if #headers ~= 1 then
    return nil, 'copies'
  end
  local verdict = parse(tostring(headers[1].raw or ''))
  if not verdict then
    return nil, 'form'
  end
  local key = keys[verdict.key_id]
  if not key then
    return nil, 'key'
  end
  if not same_secret(key, hmac(key, verdict.signed), verdict.mac) then
    return nil, 'mac'
  end
  if verdict.queue_id == '-' or verdict.queue_id ~= task:get_queue_id() then
    return nil, 'queue'
  end
  if math.abs(math.floor(rspamd_util.get_time()) - verdict.time) > MAX_AGE then
    return nil, 'stale'
  end
  return verdict
end

----------------------------------------------------------------------------------------------
-- Symbols
----------------------------------------------------------------------------------------------

-- What a message is to get: entries of a symbol, the factor of its weight, and its options.
local function symbols_of_score(task, verdict)
  local score = tonumber(verdict.score)
  if score <= settings.ham_at_most then
    return { { symbol = 'LLM_HAM', factor = 1.0, options = { verdict.score } } }
  elseif score < settings.spam_at_least then
    return { { symbol = 'LLM_UNCERTAIN', factor = 1.0, options = { verdict.score } } }
  end
  local spam = { symbol = 'LLM_SPAM', factor = 2 * score - 1, options = { verdict.score } }
  local category = category_symbols[verdict.code]
  if category then
    return { spam, { symbol = category, factor = 1.0, options = {} } }
  elseif verdict.code ~= 'none' then
    rspamd_logger.infox(task, '%s: no symbol for category %s: add it to categories',
        N, verdict.code)
  end
  return { spam }
end

local function symbols_of(task)
  local headers = task:get_header_full(HEADER)
  if not headers or #headers == 0 then
    return task:get_user() and {} or { { symbol = 'LLM_ABSENT', factor = 1.0, options = {} } }
  end
  local verdict, why = genuine_verdict(task, headers)
  if not verdict then
    return { { symbol = 'LLM_FORGED', factor = 1.0, options = { why } } }
  elseif verdict.state == 'scored' then
    return symbols_of_score(task, verdict)
  end
  local symbol = verdict.state == 'skipped' and 'LLM_SKIPPED' or 'LLM_UNSCORED'
  return { { symbol = symbol, factor = 1.0, options = { verdict.code } } }
end

-- The weight that Rspamd itself would use: that of the settings which apply to this message,
-- else the configured one. Asked anew each time: the web interface may change it.
local function weight_in_force(task, symbol)
  local own = task:get_settings()
  local scores = own and (own.scores or own)
  return type(scores) == 'table' and tonumber(scores[symbol])
      or (rspamd_config:get_symbol(symbol) or {}).score or 0
end

-- Gives the symbols without any points, and writes beside them the points that they would have
-- had; the sum is bounded as Rspamd bounds it.
local function observe(task, entries)
  local limit = (rspamd_config:get_groups(true)[N] or {}).max_score
  limit = limit and limit > 0 and limit or math.huge -- 0 is no limit, to Rspamd as well
  local sum = 0
  for _, entry in ipairs(entries) do
    local points = entry.factor * weight_in_force(task, entry.symbol)
    if points ~= 0 then
      table.insert(entry.options, string.format('would=%.2f', points))
    end
    task:insert_result(entry.symbol, 0.0, entry.options)
    -- A symbol that settings have disabled is not there now and would not be there then.
    if task:has_symbol(entry.symbol) then
      sum = math.min(sum + points, limit)
    end
  end
  if #entries > 0 then
    task:insert_result(OBSERVED, 0.0, string.format('%.2f', sum))
  end
end

local function check(task)
  local entries = symbols_of(task)
  if settings.observe then
    return observe(task, entries)
  end
  for _, entry in ipairs(entries) do
    task:insert_result(entry.symbol, entry.factor, entry.options)
  end
end

-- The verdict is for us alone: the reader's programs must not find a header that looks
-- trustworthy, genuine or not. 0 means every copy.
local function clean(task)
  if task:has_header(HEADER) then
    task:set_milter_reply({ remove_headers = { [HEADER] = 0 } })
  end
end

----------------------------------------------------------------------------------------------
-- Questions
----------------------------------------------------------------------------------------------

-- The daemon may ask for Rspamd's opinion of a mail before Rspamd gets the mail itself. Of such a
-- scan nothing may stay: neither learnt, nor counted, nor stored, nor sent on.

-- What stores, counts or learns before the end, and our own check. KNOWN_SENDER is one of
-- Rspamd 3.5 and later.
local TRAILS = {
  'GREYLIST_CHECK', 'GREYLIST_SAVE', 'RATELIMIT_CHECK', 'SPAMTRAP_CHECK', 'KNOWN_SENDER', CHECK,
}

local function is_question(task)
  return task:get_request_header(QUESTION) ~= nil
end

local function begin_question(task)
  if is_question(task) then
    for _, symbol in ipairs(TRAILS) do
      task:disable_symbol(symbol)
    end
  end
end

-- After all that finds something. For a message with this flag Rspamd runs nothing more: it does
-- not learn, by whatever rule, and runs none of the symbols (type idempotent) that keep history,
-- reputation and replies, count, or send on.
local function end_question(task)
  if is_question(task) then
    task:set_flag('skip')
    task:append_message('kept aside', N)
  end
end

----------------------------------------------------------------------------------------------
-- Configuration
----------------------------------------------------------------------------------------------

local function read_thresholds(opts)
  local spam = tonumber(opts.spam_at_least or settings.spam_at_least)
  local ham = tonumber(opts.ham_at_most or settings.ham_at_most)
  -- Below 0.5 the weight 2s - 1 would be negative, and spam would earn a discount.
  if spam and ham and spam >= 0.5 and spam <= 1 and ham >= 0 and ham < spam then
    settings.spam_at_least, settings.ham_at_most = spam, ham
  else
    rspamd_logger.errx(rspamd_config, '%s: spam_at_least must lie in 0.5 to 1 and ' ..
        'ham_at_most in 0 to below it; using %s and %s', N, settings.spam_at_least,
        settings.ham_at_most)
  end
end

-- What is said but not understood counts as yes: observing does no harm.
local function read_observe(opts)
  local wanted = SWITCH[tostring(opts.observe or false):lower()]
  if wanted == nil then
    rspamd_logger.errx(rspamd_config, '%s: observe must be true or false, not %s; taken for true',
        N, opts.observe)
    wanted = true
  end
  if wanted then
    rspamd_logger.warnx(rspamd_config, '%s: only observing (observe = true): all symbols of ' ..
        'this plugin are given with 0 points', N)
  end
  settings.observe = wanted
end

local function read_categories(opts)
  local taken = {
    [CHECK] = true, [CLEAN] = true, [OBSERVED] = true, [ASKED] = true, [ASIDE] = true,
    LLM_NONE = true,
  }
  for _, symbol in ipairs(OUTCOMES) do
    taken[symbol] = true
  end
  local names = opts.categories or settings.categories
  if type(names) ~= 'table' then
    names = { names }
  end
  for _, name in ipairs(names) do
    name = tostring(name)
    local symbol = 'LLM_' .. name:upper():gsub('-', '_')
    if not name:find('^%l[%l%d_-]*$') or #name > 32 or taken[symbol] then
      rspamd_logger.errx(rspamd_config, '%s: category %s ignored: a name is a lower-case ' ..
          'letter, then up to 31 of a-z 0-9 _ -, and its symbol must be free', N, name)
    else
      category_symbols[name] = symbol
      taken[symbol] = true
    end
  end
end

local function register_symbols()
  -- A prefilter with these flags runs whatever other prefilters or a user's settings decide.
  -- It belongs to no group, so that switching the group off does not switch it off.
  rspamd_config:register_symbol({
    name = CLEAN,
    type = 'prefilter',
    priority = 20,
    flags = 'empty,nostat,explicit_disable,ignore_passthrough',
    callback = clean,
  })
  -- After settings (10), which may switch symbols on, and before all that stores (5 and less).
  rspamd_config:register_symbol({
    name = ASKED,
    type = 'prefilter',
    priority = 9,
    flags = 'empty,nostat,explicit_disable,ignore_passthrough',
    callback = begin_question,
  })
  -- Of postfilters the highest priority comes last.
  rspamd_config:register_symbol({
    name = ASIDE,
    type = 'postfilter',
    priority = 20,
    flags = 'empty,nostat,explicit_disable,ignore_passthrough',
    callback = end_question,
  })
  local parent = rspamd_config:register_symbol({
    name = CHECK,
    type = 'callback',
    group = N,
    flags = 'empty,nostat',
    callback = check,
  })
  -- No score here: it would win over the administrator's in some configurations.
  local function register_child(symbol)
    rspamd_config:register_symbol({ name = symbol, type = 'virtual', parent = parent, group = N })
  end
  register_child(OBSERVED)
  for _, symbol in ipairs(OUTCOMES) do
    register_child(symbol)
  end
  for _, symbol in pairs(category_symbols) do
    register_child(symbol)
  end
end

local opts = rspamd_config:get_all_opt(N)
if not opts then
  rspamd_logger.infox(rspamd_config, '%s: no section %s, disabling the plugin', N, N)
  return
end

settings.key_file = tostring(opts.key_file or settings.key_file)
read_thresholds(opts)
read_observe(opts)
read_categories(opts)
register_symbols()

-- Keys come from a file: an address would make every verdict depend on the network.
local watched = settings.key_file:find('^/') and rspamd_config:add_map({
  type = 'callback',
  url = settings.key_file,
  description = 'keys that sign rspamd-llm verdicts',
  callback = load_keys,
})
if not watched then
  rspamd_logger.errx(rspamd_config, '%s: key_file %s is no readable file (it must begin with /)',
      N, settings.key_file)
end
rspamd_config:add_on_load(complain_about_key_file)
