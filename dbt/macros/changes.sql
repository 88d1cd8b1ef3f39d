{#- The incremental build; docs/incremental.md explains it. A load is pending until every table contains its events
    (`int_loads_built`). Pending events reopen their sessions, and the sessions of their client within the session gap.
    Whole sessions are rebuilt, possibly under a new key. Nothing else is read or written. -#}

{#- Return a table of an earlier build by its name, because a `ref` would be circular. Return none if it does not exist,
    or if everything is built. -#}
{% macro of_earlier_builds(schema, name) -%}
    {% if execute and not flags.FULL_REFRESH %}
        {% set found = adapter.get_relation(target.database, schema, name) %}
        {{ return(found if found and found.type == 'table' else none) }}
    {% endif %}
    {{ return(none) }}
{%- endmacro %}

{#- Stop if an earlier version of Boat built the tables: they lack columns that the rules read now. -#}
{% macro require_current_columns() -%}
    {% set known = of_earlier_builds('marts', 'fct_session_events') %}
    {% if known -%}
        {% set names = adapter.get_columns_in_relation(known) | map(attribute='name') | map('lower') | list %}
        {% for name in ['source_file', 'source_line'] if name not in names -%}
            {{ exceptions.raise_compiler_error(
                'The table marts.fct_session_events has no column ' ~ name ~ ': an earlier version of Boat built it. '
                ~ 'Build every table again once: prefect deployment run ingestion/hourly -p full_refresh=true'
            ) }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}

{#- Keys of the sessions that events of pending loads belong to, or may join. -#}
{% macro sessions_reopened(events, known) -%}
    select distinct {{ given_session_key() }} as session_key
    from {{ events }}
    where session_id is not null
    union
    -- All sessions of the session id: one more client can split it, or join events that had no client.
    select distinct session_key
    from {{ known }}
    where (shop, session_id) in (select shop, session_id from {{ events }} where session_id is not null)
    union
    select distinct known.session_key
    from {{ known }} as known
    inner join (
        select
            shop,
            client_id,
            {{ dbt.dateadd('minute', '-' ~ var('session_gap_minutes'), 'min(event_time)') }} as reaches_from,
            {{ dbt.dateadd('minute', var('session_gap_minutes'), 'max(event_time)') }} as reaches_to
        from {{ events }}
        where session_id is null
        group by shop, client_id
    ) as clients
        on known.shop = clients.shop
        and known.client_id = clients.client_id
        and known.event_time between clients.reaches_from and clients.reaches_to
    where known.session_id is null
{%- endmacro %}

{#- The pending events and all other events of the sessions that they reopen, each once. `in_span` limits the time, so
    that wide columns of other days are not read. -#}
{% macro events_reopened(events, known, reopened, in_span='true') -%}
    select {{ event_columns() }}
    from {{ events }}
    union
    select {{ event_columns() }}
    from {{ known }}
    where session_key in (select session_key from {{ reopened }})
        and {{ in_span }}
{%- endmacro %}

{#- SQL condition: the event is between the first and the last day of the reopened sessions. -#}
{% macro in_span_of(known, reopened) -%}
    {% set days %}
        select cast(min(event_time) as date), cast(max(event_time) as date)
        from {{ known }}
        where session_key in (select session_key from {{ reopened }})
    {% endset %}
    {% set first, last = run_query(days).rows[0].values() %}
    {% if not first -%}{{ return('false') }}{%- endif %}
    {% set end = dbt.dateadd('day', 1, "cast('" ~ last ~ "' as timestamp)") %}
    {{ return("event_time >= '" ~ first ~ "' and event_time < " ~ end) }}
{%- endmacro %}

{#- The relation that a table of sessions or events reads: in an incremental build the events of changed sessions
    (`int_session_events_changed`), otherwise all events (`all`). dbt records dependencies before it executes. -#}
{% macro changed_or_all_events(all) -%}
    {% if not execute or is_incremental() %}
        {% set reopened = ref('int_sessions_reopened') %}
        {{ return(ref('int_session_events_changed')) }}
    {% endif %}
    {{ return(all) }}
{%- endmacro %}

{#- The incremental strategy `by_session`: delete the rows of changed sessions, then insert the new rows. Deleting by
    the new rows would not be enough: a session can merge into another one, or have no row left. -#}
{% macro get_incremental_by_session_sql(arg_dict) -%}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    {% set dml %}
    delete from {{ arg_dict['target_relation'] }}
    where session_key in (
        select session_key from {{ ref('int_sessions_reopened') }}
        union
        select session_key from {{ ref('int_session_events_changed') }}
    );
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
    {% endset %}
    {{ return(in_one_transaction(dml)) }}
{%- endmacro %}

{#- The incremental strategy `by_day`: delete and insert the days whose figures may have changed. -#}
{% macro get_incremental_by_day_sql(arg_dict) -%}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    {% set dml %}
    delete from {{ arg_dict['target_relation'] }}
    where (shop, cast({{ config.require('day_column') }} as date)) in (select shop, day from {{ ref('int_kpi_days') }});
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
    {% endset %}
    {{ return(in_one_transaction(dml)) }}
{%- endmacro %}

{#- Whether only some days of the KPIs are counted, and the others stay as an earlier build counted them. -#}
{% macro counts_some_days() -%}
    {% if not execute %}{{ return(false) }}{% endif %}
    {% set daily = of_earlier_builds('marts', 'kpi_daily') %}
    {% set hourly = of_earlier_builds('marts', 'kpi_hourly') %}
    {{ return(daily and hourly and not is_first_build(of_earlier_builds('intermediate', 'int_loads_pending'))) }}
{%- endmacro %}

{#- Before a full build, drop the record of built loads. dbt drops it, and not a statement, because dbt caches which
    tables exist. -#}
{% macro forget_earlier_builds() -%}
    {% if execute and flags.FULL_REFRESH %}
        {% set built = adapter.get_relation(this.database, this.schema, 'int_loads_built') %}
        {% if built %}{% do adapter.drop_relation(built) %}{% endif %}
    {% endif %}
{%- endmacro %}
