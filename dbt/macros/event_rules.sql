{#- What the raw log must hold to count. The loaders and the collector refuse the same; an earlier version of them did not. -#}

{% macro event_types() -%}
    {{ return(['pageview', 'search', 'click', 'detail', 'add', 'remove', 'purchase']) }}
{%- endmacro %}

{% macro sql_list(names) -%}
    ('{{ names | join("', '") }}')
{%- endmacro %}

{#- A number within ± `largest`, else null. NaN is greater than every number in both warehouses. -#}
{% macro in_range(value, largest) -%}
    case when {{ value }} between -{{ largest }} and {{ largest }} then {{ value }} end
{%- endmacro %}

{#- The time of an event. A device whose clock is far from the time of the receipt is not believed; only collected events
    have one. -#}
{% macro believed_time() -%}
    case
        when event_time > {{ dbt.dateadd('minute', var('clock_ahead_minutes'), 'received_at') }}
            or event_time < {{ dbt.dateadd('day', -var('clock_late_days'), 'received_at') }}
            then received_at
        else event_time
    end
{%- endmacro %}

{#- The collector marks crawlers in `extra`. Almost no event has the word in it: only those are parsed. -#}
{% macro is_bot() -%}
    case
        when contains(extra, '"is_bot"') then coalesce({{ json_text('extra', 'is_bot') }} = 'true', false)
        else false
    end
{%- endmacro %}

{#- Why an event of the raw log does not count: SQL conditions by reason, for events at their believed time. -#}
{% macro exclusions() -%}
    {{ return({
        'no event_id': 'event_id is null',
        'no shop': 'shop is null',
        'implausible event_time': 'event_time is null or event_time < ' ~ earliest_time() ~ ' or event_time > ' ~ latest_time(),
        'unknown event_type': 'event_type is null or event_type not in ' ~ sql_list(event_types()),
        'no product_id': "product_id is null and event_type not in ('pageview', 'search')",
        'no session_id and no client_id': 'session_id is null and client_id is null',
        'bot': is_bot(),
    }) }}
{%- endmacro %}

{% macro earliest_time() -%}
    cast('{{ var("earliest_event_time") }}' as timestamp)
{%- endmacro %}

{% macro latest_time() -%}
    {{ dbt.dateadd('day', 1, utc_now()) }}
{%- endmacro %}

{#- SQL that holds of the events that count. -#}
{% macro counts() -%}
    not (
        {% for condition in exclusions().values() -%}
        ({{ condition }}){{ ' or ' if not loop.last }}
        {% endfor -%}
    )
{%- endmacro %}

{#- A purchase of at least one piece. With fewer it is a return, which lowers revenue and is nothing that a shopper chose. -#}
{% macro is_buy() -%}
    (event_type = 'purchase' and coalesce(quantity, 1) > 0)
{%- endmacro %}

{#- Whether an order number is a word for none, or zeros only. -#}
{% macro is_placeholder(text) -%}
    (
        lower({{ text }}) in ('', '-', 'undefined', 'null', 'none', 'nil', 'nan', 'n/a', '(not set)', '(none)')
        or lower({{ text }}) = chr(92) || 'n'
        or replace({{ text }}, '0', '') = ''
    )
{%- endmacro %}
