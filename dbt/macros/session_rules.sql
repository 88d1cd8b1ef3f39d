{#- The rules that make sessions of events, each a query over a relation that holds whole sessions. The whole history and
    a night's changes go through the same ones. -#}

{% macro event_columns(prefix='') -%}
    {% for column in [
        'event_id', 'shop', 'session_id', 'client_id', 'event_time', 'event_type', 'product_id', 'url', 'query', 'price',
        'quantity',
    ] -%}
    {{ prefix }}{{ column }}{{ ', ' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- What a page fired twice under two ids stays once, under the first. -#}
{% macro deduplicated(events) -%}
    {{ return(adapter.dispatch('deduplicated')(events)) }}
{%- endmacro %}

{% macro sameness() -%}
    shop, session_id, client_id, event_time, event_type, product_id, url, query, quantity
{%- endmacro %}

{% macro default__deduplicated(events) -%}
    select {{ event_columns() }}
    from {{ events }}
    qualify row_number() over (partition by {{ sameness() }} order by event_id) = 1
{%- endmacro %}

{#- The same in a third of the time and less memory: few events share a hash, and only those are sorted. -#}
{% macro duckdb__deduplicated(events) -%}
    select {{ event_columns() }}
    from {{ events }}
    -- As `not exists` it is planned the other way round, with all events in the hash table.
    where (shop, event_id) not in (
        select (shop, event_id)
        from {{ events }}
        where hash({{ sameness() }}) in (
            select hash({{ sameness() }}) from {{ events }} group by 1 having count(*) > 1
        )
        qualify row_number() over (partition by {{ sameness() }} order by event_id) > 1
    )
{%- endmacro %}

{#- A given session id is trusted; a client's events without one are cut where the silence is too long. -#}
{% macro sessionized(events) -%}
    {% set in_client_order = 'over (partition by shop, client_id order by ' ~ event_order() %}
    {% set previous_time = 'lag(event_time) ' ~ in_client_order ~ ')' %}
    {% set session_opened_at = (
        'max(opened_at) ' ~ in_client_order ~ ' rows between unbounded preceding and current row)'
    ) %}
    {% set cut_key = "shop || ':' || client_id || ':' || cast(" ~ epoch_seconds(session_opened_at) ~ " as varchar)" %}
    select {{ event_columns() }}, shop || ':' || session_id as session_key
    from {{ events }}
    where session_id is not null
    union all
    select {{ event_columns() }}, {{ cut_key }} as session_key
    from (
        -- An event that comes after too long a silence, or is the client's first, opens a session.
        select
            *,
            case
                when {{ seconds_between(previous_time, 'event_time') }} <= {{ var('session_gap_minutes') }} * 60 then null
                else event_time
            end as opened_at
        from {{ events }}
        where session_id is null
    ) as openings
{%- endmacro %}

{#- Events at their place in the session. -#}
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
        {{ seconds_between('lag(event_time) ' ~ in_session_order, 'event_time') }} as seconds_since_previous
    from {{ events }}
{%- endmacro %}

