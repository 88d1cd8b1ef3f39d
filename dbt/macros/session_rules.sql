{#- Rules that build sessions from events. Each is a query over a relation with whole sessions. A full build and an
    incremental build use the same rules. -#}

{% macro event_columns(prefix='') -%}
    {% for column in [
        'event_id', 'shop', 'session_id', 'client_id', 'event_time', 'event_type', 'product_id', 'url', 'query',
        'price', 'quantity', 'source_file', 'source_line',
    ] -%}
    {{ prefix }}{{ column }}{{ ', ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- Events without repeats that a page fired twice under two ids. Equal purchases, adds and removes are separate pieces
    and are all used. -#}
{% macro deduplicated(events) -%}
    {{ return(adapter.dispatch('deduplicated')(events)) }}
{%- endmacro %}

{% macro may_repeat() -%}
    event_type in ('purchase', 'add', 'remove')
{%- endmacro %}

{% macro sameness() -%}
    shop, session_id, client_id, event_time, event_type, product_id, url, query, quantity
{%- endmacro %}

{% macro first_fired() -%}
    row_number() over (partition by {{ sameness() }} order by source_file, source_line, event_id)
{%- endmacro %}

{% macro default__deduplicated(events) -%}
    select {{ event_columns() }}
    from {{ events }}
    qualify {{ may_repeat() }} or {{ first_fired() }} = 1
{%- endmacro %}

{#- The same in a third of the time and with less memory: few events share a hash, and only they are sorted. -#}
{% macro duckdb__deduplicated(events) -%}
    select {{ event_columns() }}
    from {{ events }}
    -- With `not exists`, the plan has all events in the hash table.
    where (shop, event_id) not in (
        select (shop, event_id)
        from {{ events }}
        where not {{ may_repeat() }}
            and hash({{ sameness() }}) in (
                select hash({{ sameness() }})
                from {{ events }}
                where not {{ may_repeat() }}
                group by 1
                having count(*) > 1
            )
        qualify {{ first_fired() }} > 1
    )
{%- endmacro %}

{#- Session ids with several clients. If no event has a client, one column is read. -#}
{% macro shared_session_ids(events) -%}
    select shop, session_id
    from {{ events }}
    where client_id is not null and session_id is not null
    group by shop, session_id
    having min(client_id) != max(client_id)
{%- endmacro %}

{#- An id as a part of a session key. The separator is escaped, so that two sessions never have the same key. -#}
{% macro key_part(id) -%}
    case
        when contains({{ id }}, ':') or contains({{ id }}, '%')
            then replace(replace({{ id }}, '%', '%25'), ':', '%3A')
        else {{ id }}
    end
{%- endmacro %}

{% macro given_session_key() -%}
    {{ key_part('shop') }} || ':' || {{ key_part('session_id') }}
{%- endmacro %}

{#- Events with their session keys. A session id is one session, unless its events name several clients (`shared`): then
    each client has a session, and so have the events without a client. Events without a session id start a new session
    after too long a silence of their client. -#}
{% macro sessionized(events, shared) -%}
    {% set in_client_order = 'over (partition by shop, client_id order by ' ~ event_order() %}
    {% set previous_time = 'lag(event_time) ' ~ in_client_order ~ ')' %}
    {% set session_opened_at = (
        'max(opened_at) ' ~ in_client_order ~ ' rows between unbounded preceding and current row)'
    ) %}
    select
        {{ event_columns() }},
        {{ given_session_key() }}
        || case
            when client_id is not null and (shop, session_id) in (select shop, session_id from {{ shared }})
                then ':client:' || {{ key_part('client_id') }}
            else ''
        end as session_key
    from {{ events }}
    where session_id is not null
    union all
    select
        {{ event_columns() }},
        {{ key_part('shop') }} || ':' || {{ key_part('client_id') }}
        || ':' || cast({{ epoch_seconds(session_opened_at) }} as varchar) as session_key
    from (
        -- An event after too long a silence, or the first event of a client, starts a session.
        select
            *,
            case
                when {{ seconds_between(previous_time, 'event_time') }} <= {{ var('session_gap_minutes') }} * 60
                    then null
                else event_time
            end as opened_at
        from {{ events }}
        where session_id is null
    ) as openings
{%- endmacro %}

{#- Events with their position in the session. -#}
{% macro positioned(events) -%}
    {% set in_session_order = 'over (partition by session_key order by ' ~ event_order() ~ ')' %}
    select
        event_id,
        session_key,
        shop,
        session_id,
        client_id,
        row_number() {{ in_session_order }} as position,
        event_time,
        event_type,
        product_id,
        url,
        query,
        price,
        quantity,
        source_file,
        source_line,
        {{ seconds_between('lag(event_time) ' ~ in_session_order, 'event_time') }} as seconds_since_previous
    from {{ events }}
{%- endmacro %}

